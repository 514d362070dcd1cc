// Who owns what: sessions, attaching, reconciling, returning.
#include <algorithm>
#include <map>
#include <set>

#include "common/status/status.h"
#include "services/controller/storage/memory/memory_storage.h"

namespace drover {

using memory::JobRows;
using memory::LeaseRow;
using memory::SessionRow;
using Tables = memory::MemoryDatabase::Tables;

namespace {

absl::Status SessionGone() {
  return Error(absl::StatusCode::kNotFound, "SESSION_GONE", "the session has ended");
}

void GiveUp(LeaseRow& lease, CameBack how) {
  lease.session.clear();
  lease.attachment = 0;
  lease.came_back = how;
  lease.maybe_ran |= how == CameBack::kLost;
}

Storage::OwnedLease ToOwned(const JobRows& rows, const LeaseKey& key, const LeaseRow& lease) {
  return {rows.spec->job_id, key, lease.session, lease.attachment};
}

}  // namespace

// ---------------------------------------------------------------------------------------------- sessions

absl::Status MemoryStorage::CreateSession(const SessionInfo& info, absl::Duration ttl) {
  return db_.WriteAll("create_session", [&](Tables& tables) {
    SessionRow row{info};
    row.info.created = db_.Now();
    row.info.expires = db_.Now() + ttl;
    // The same id is the same call again, after a commit in doubt.
    tables.sessions.try_emplace(info.session_id, std::move(row));
    return absl::OkStatus();
  });
}

absl::Status MemoryStorage::CheckSession(const SessionId& session, const std::string& token_hash) {
  const std::optional<SessionRow> row = db_.Session(session);
  if (!row) return SessionGone();
  if (row->info.token_hash != token_hash) {
    return Error(absl::StatusCode::kPermissionDenied, "RESUME_TOKEN",
                 "the resume token is not that session's");
  }
  return absl::OkStatus();
}

absl::StatusOr<RaiseResult> MemoryStorage::RaiseAttachment(const SessionInfo& info, absl::Duration ttl) {
  RaiseResult result = RaiseResult::kGone;
  DROVER_RETURN_IF_ERROR(db_.WriteAll("raise_attachment", [&](Tables& tables) {
    const auto found = tables.sessions.find(info.session_id);
    if (found == tables.sessions.end()) return absl::OkStatus();
    SessionInfo& row = found->second.info;
    if (row.attachment >= info.attachment) {
      result = RaiseResult::kNotLower;
      return absl::OkStatus();
    }
    row.attachment = info.attachment;
    row.expires = db_.Now() + ttl;
    row.draining = info.draining;
    row.name = info.name;
    row.version = info.version;
    row.controller = info.controller;
    row.hello = info.hello;
    result = RaiseResult::kRaised;
    return absl::OkStatus();
  }));
  return result;
}

absl::StatusOr<std::vector<SessionId>> MemoryStorage::RenewSessions(const std::vector<Renewal>& sessions,
                                                                    absl::Duration ttl) {
  std::vector<SessionId> renewed;
  DROVER_RETURN_IF_ERROR(db_.WriteAll("renew_sessions", [&](Tables& tables) {
    for (const Renewal& renewal : sessions) {
      const auto found = tables.sessions.find(renewal.session);
      if (found == tables.sessions.end() || found->second.info.attachment != renewal.attachment) continue;
      found->second.info.expires = db_.Now() + ttl;
      found->second.info.draining = renewal.draining;
      renewed.push_back(renewal.session);
    }
    return absl::OkStatus();
  }));
  return renewed;
}

absl::Status MemoryStorage::EndSession(const SessionId& session) {
  return db_.WriteAll("end_session", [&](Tables& tables) {
    tables.sessions.erase(session);
    return absl::OkStatus();
  });
}

absl::StatusOr<std::vector<SessionId>> MemoryStorage::EndExpiredSessions() {
  std::vector<SessionId> ended;
  DROVER_RETURN_IF_ERROR(db_.WriteAll("end_expired_session", [&](Tables& tables) {
    std::erase_if(tables.sessions, [&](const auto& session) {
      if (session.second.info.expires >= db_.Now()) return false;
      ended.push_back(session.first);
      return true;
    });
    return absl::OkStatus();
  }));
  return ended;
}

absl::StatusOr<std::vector<SessionInfo>> MemoryStorage::ListSessions(const SessionId& after, int limit) {
  if (!after.empty() && !IsUuid(after))
    return Error(absl::StatusCode::kInvalidArgument, "BAD_PAGE", "no session id");
  std::vector<SessionInfo> sessions;
  db_.ReadAll([&](const Tables& tables) {
    for (auto it = tables.sessions.upper_bound(after);
         it != tables.sessions.end() && static_cast<int>(sessions.size()) < limit; ++it) {
      SessionInfo info = it->second.info;
      info.token_hash.clear();
      for (const auto& [id, rows] : tables.jobs) {
        for (const auto& [key, lease] : rows.leases) info.leases += lease.session == info.session_id ? 1 : 0;
      }
      sessions.push_back(std::move(info));
    }
  });
  return sessions;
}

// ------------------------------------------------------------------------------------------------- leases

absl::StatusOr<std::vector<HeldLeaseRow>> MemoryStorage::MarkLeases(
    const SessionId& session, int64_t attachment, const std::vector<std::pair<JobId, LeaseKey>>& leases) {
  std::map<JobId, std::set<LeaseKey>> by_job;
  for (const auto& [job_id, key] : leases) by_job[job_id].insert(key);
  std::vector<HeldLeaseRow> held;
  for (const auto& [job_id, keys] : by_job) {
    std::vector<HeldLeaseRow> of_job;
    const absl::Status status = db_.Write("mark_leases", job_id, [&](JobRows& rows) {
      for (const LeaseKey& key : keys) {
        const auto found = rows.leases.find(key);
        if (found == rows.leases.end() || found->second.session != session) continue;
        LeaseRow& lease = found->second;
        lease.attachment =
            db_.faults().marking_lowers ? attachment : std::max(lease.attachment, attachment);  // only raises
        HeldLeaseRow row;
        row.job_id = rows.spec->job_id;
        row.key = key;
        row.batch_tasks = lease.batch_tasks;
        row.tasks = lease.tasks;
        row.last_sequence = lease.last_sequence;
        row.recorded = rows.Recorded(key, lease.batch_tasks);
        of_job.push_back(std::move(row));
      }
      return absl::OkStatus();
    });
    if (absl::IsNotFound(status)) continue;
    DROVER_RETURN_IF_ERROR(status);
    std::ranges::move(of_job, std::back_inserter(held));
  }
  return held;
}

absl::StatusOr<int64_t> MemoryStorage::ReturnOlderLeases(const SessionId& session, int64_t attachment) {
  std::set<JobId> jobs;
  const auto older = [&](const LeaseRow& lease) {
    return lease.session == session && lease.attachment < attachment;
  };
  db_.LookAtAll([&](const JobRows& rows) {
    for (const auto& [key, lease] : rows.leases) {
      if (older(lease)) jobs.insert(rows.spec->job_id);
    }
  });
  int64_t returned = 0;
  for (const JobId& job_id : jobs) {
    DROVER_RETURN_IF_ERROR(db_.Write("return_older_leases", job_id, [&](JobRows& rows) {
      for (auto& [key, lease] : rows.leases) {
        if (!older(lease)) continue;
        GiveUp(lease, CameBack::kGivenBack);
        ++returned;
      }
      return absl::OkStatus();
    }));
  }
  return returned;
}

absl::StatusOr<std::vector<Storage::OwnedLease>> MemoryStorage::ListOwnedLeases(
    const std::vector<std::pair<SessionId, int64_t>>& attachments) {
  const std::set<std::pair<SessionId, int64_t>> wanted(attachments.begin(), attachments.end());
  std::vector<OwnedLease> leases;
  db_.LookAtAll([&](const JobRows& rows) {
    for (const auto& [key, lease] : rows.leases) {
      if (wanted.contains({lease.session, lease.attachment})) leases.push_back(ToOwned(rows, key, lease));
    }
  });
  return leases;
}

absl::StatusOr<int64_t> MemoryStorage::ReturnLeases(const JobId& job_id,
                                                    const std::vector<OwnedLease>& leases, CameBack how) {
  if (how == CameBack::kNo) return absl::InvalidArgumentError("a lease comes back lost or given back");
  if (leases.empty()) return 0;
  int64_t returned = 0;
  const absl::Status status = db_.Write("return_leases", job_id, [&](JobRows& rows) {
    for (const OwnedLease& owned : leases) {
      const auto found = rows.leases.find(owned.key);
      if (found == rows.leases.end() || !found->second.owned()) continue;
      LeaseRow& lease = found->second;
      if (lease.session != owned.session || lease.attachment != owned.attachment) continue;
      GiveUp(lease, how);
      ++returned;
    }
    return absl::OkStatus();
  });
  if (absl::IsNotFound(status)) return 0;
  DROVER_RETURN_IF_ERROR(status);
  return returned;
}

absl::StatusOr<std::vector<Storage::StrandedLease>> MemoryStorage::ListStrandedLeases(int limit) {
  std::vector<StrandedLease> stranded;
  db_.ReadAll([&](const Tables& tables) {
    for (const auto& [id, rows] : tables.jobs) {
      for (const auto& [key, lease] : rows.leases) {
        if (!lease.owned() || static_cast<int>(stranded.size()) >= limit) continue;
        const auto session = tables.sessions.find(lease.session);
        const bool gone = session == tables.sessions.end();
        if (gone || lease.attachment < session->second.info.attachment)
          stranded.push_back({ToOwned(rows, key, lease), gone});
      }
    }
  });
  return stranded;
}

absl::StatusOr<int64_t> MemoryStorage::PurgeEndedLeases(int limit) {
  int64_t purged = 0;
  DROVER_RETURN_IF_ERROR(db_.WriteAll("purge_ended_leases", [&](Tables& tables) {
    for (auto& [id, rows] : tables.jobs) {
      if (!lifecycle::IsTerminal(rows.snapshot.state)) continue;
      std::erase_if(rows.leases, [&](const auto& lease) {
        if (lease.second.owned() || purged >= limit) return false;
        ++purged;
        return true;
      });
    }
    return absl::OkStatus();
  }));
  return purged;
}

}  // namespace drover
