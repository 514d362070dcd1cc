// Sessions: rows that stand alone, in no transaction with anything else. Only the database's clock says when
// one expires.
#include "common/status/status.h"
#include "common/strings/strings.h"
#include "services/controller/storage/postgres/db.h"
#include "services/controller/storage/postgres/postgres_storage.h"

namespace drover {
namespace {

using namespace postgres;  // NOLINT(build/namespaces): this folder's own

absl::Status SessionGone() {
  return Error(absl::StatusCode::kNotFound, "SESSION_GONE", "the session has ended");
}

// Takes as long for a wrong token as for a right one.
bool SameSecret(std::string_view a, std::string_view b) {
  if (a.size() != b.size()) return false;
  unsigned char difference = 0;
  for (size_t i = 0; i < a.size(); ++i) difference |= static_cast<unsigned char>(a[i] ^ b[i]);
  return difference == 0;
}

}  // namespace

absl::Status PostgresStorage::CreateSession(const SessionInfo& info, absl::Duration ttl) {
  return db_->Write("create_session", [&](Tx& tx) -> absl::Status {
    // The same id is the same call again, after a commit in doubt.
    tx.Query(R"sql(
        INSERT INTO drover.sessions
          (session_id, attachment, created_at, expires_at, draining, token_hash, name, version, controller,
           hello)
        VALUES ($1, $2, clock_timestamp(), clock_timestamp() + $3::bigint * interval '1 microsecond',
                $4, $5, $6, $7, $8, $9)
        ON CONFLICT (session_id) DO NOTHING)sql",
             info.session_id, info.attachment, absl::ToInt64Microseconds(ttl), info.draining, info.token_hash,
             info.name, info.version, info.controller, Bytes(info.hello));
    return absl::OkStatus();
  });
}

absl::Status PostgresStorage::CheckSession(const SessionId& session, const std::string& token_hash) {
  if (!IsUuid(session)) return SessionGone();
  return db_->Read("check_session", [&](Tx& tx) -> absl::Status {
    const pqxx::result rows =
        tx.Query("SELECT token_hash FROM drover.sessions WHERE session_id = $1", session);
    if (rows.empty()) return SessionGone();
    if (!SameSecret(ReadText(rows[0][0]), token_hash)) {
      return Error(absl::StatusCode::kPermissionDenied, "RESUME_TOKEN",
                   "the resume token is not that session's");
    }
    return absl::OkStatus();
  });
}

absl::StatusOr<RaiseResult> PostgresStorage::RaiseAttachment(const SessionInfo& info, absl::Duration ttl) {
  RaiseResult result = RaiseResult::kGone;
  if (!IsUuid(info.session_id)) return result;
  const absl::Status status = db_->Write("raise_attachment", [&](Tx& tx) -> absl::Status {
    const pqxx::result raised =
        tx.Query(R"sql(
        UPDATE drover.sessions SET
          attachment = $2::bigint, expires_at = clock_timestamp() + $3::bigint * interval '1 microsecond',
          draining = $4, name = $5, version = $6, controller = $7, hello = $8
        WHERE session_id = $1 AND attachment < $2::bigint)sql",
                 info.session_id, info.attachment, absl::ToInt64Microseconds(ttl), info.draining, info.name,
                 info.version, info.controller, Bytes(info.hello));
    if (raised.affected_rows() == 1) {
      result = RaiseResult::kRaised;
      return absl::OkStatus();
    }
    const pqxx::result rows = tx.Query("SELECT FROM drover.sessions WHERE session_id = $1", info.session_id);
    result = rows.empty() ? RaiseResult::kGone : RaiseResult::kNotLower;
    return absl::OkStatus();
  });
  if (!status.ok()) return status;
  return result;
}

absl::StatusOr<std::vector<SessionId>> PostgresStorage::RenewSessions(const std::vector<Renewal>& sessions,
                                                                      absl::Duration ttl) {
  std::vector<SessionId> renewed;
  if (sessions.empty()) return renewed;
  std::vector<std::string_view> ids;
  std::vector<int64_t> attachments;
  std::vector<bool> draining;
  for (const Renewal& session : sessions) {
    ids.push_back(session.session);
    attachments.push_back(session.attachment);
    draining.push_back(session.draining);
  }
  // By the key, once a second. The rows are locked in the order of their ids first: an UPDATE alone would
  // lock them in whatever order its plan finds them, and two controllers could wait for each other.
  const absl::Status status = db_->WriteVital("renew_sessions", [&](Tx& tx) -> absl::Status {
    tx.Query("SELECT FROM drover.sessions WHERE session_id = ANY($1::uuid[]) ORDER BY session_id FOR UPDATE",
             UuidArray(ids));
    const pqxx::result rows =
        tx.Query(R"sql(
        UPDATE drover.sessions s SET
          expires_at = clock_timestamp() + $4::bigint * interval '1 microsecond', draining = k.draining
        FROM unnest($1::uuid[], $2::bigint[], $3::boolean[]) AS k (session_id, attachment, draining)
        WHERE s.session_id = k.session_id AND s.attachment = k.attachment
        RETURNING s.session_id)sql",
                 UuidArray(ids), Int8Array(attachments), BoolArray(draining), absl::ToInt64Microseconds(ttl));
    for (const pqxx::row& row : rows) renewed.push_back(ReadText(row[0]));
    return absl::OkStatus();
  });
  if (!status.ok()) return status;
  return renewed;
}

absl::Status PostgresStorage::EndSession(const SessionId& session) {
  if (!IsUuid(session)) return absl::OkStatus();
  return db_->Write("end_session", [&](Tx& tx) -> absl::Status {
    tx.Query("DELETE FROM drover.sessions WHERE session_id = $1", session);
    return absl::OkStatus();
  });
}

absl::StatusOr<std::vector<SessionId>> PostgresStorage::EndExpiredSessions() {
  std::vector<SessionId> expired;
  // Reads the table whole: some thousands of rows, every second or so.
  DROVER_RETURN_IF_ERROR(db_->Read("list_expired_sessions", [&](Tx& tx) -> absl::Status {
    for (const pqxx::row& row : tx.Query("SELECT session_id FROM drover.sessions WHERE expires_at < "
                                         "clock_timestamp() ORDER BY session_id")) {
      expired.push_back(ReadText(row[0]));
    }
    return absl::OkStatus();
  }));
  std::vector<SessionId> ended;
  for (const SessionId& session : expired) {
    DROVER_RETURN_IF_ERROR(db_->Write("end_expired_session", [&](Tx& tx) -> absl::Status {
      // Looked at again under the lock: a renewal that committed meanwhile counts.
      const pqxx::result rows = tx.Query(
          "DELETE FROM drover.sessions WHERE session_id = $1 AND expires_at < clock_timestamp()", session);
      if (rows.affected_rows() == 1) ended.push_back(session);
      return absl::OkStatus();
    }));
  }
  return ended;
}

absl::StatusOr<std::vector<SessionInfo>> PostgresStorage::ListSessions(const SessionId& after, int limit) {
  std::vector<SessionInfo> sessions;
  if (!after.empty() && !IsUuid(after))
    return Error(absl::StatusCode::kInvalidArgument, "BAD_PAGE", "no session id");
  // By the key; leases by index leases_by_session. A person's call.
  const absl::Status status = db_->Read("list_sessions", [&](Tx& tx) -> absl::Status {
    const pqxx::result rows = tx.Query(R"sql(
        SELECT session_id, attachment, (extract(epoch FROM created_at) * 1000000)::bigint,
               (extract(epoch FROM expires_at) * 1000000)::bigint, draining, name, version, controller, hello,
               (SELECT count(*) FROM drover.leases l WHERE l.session_id = s.session_id)
        FROM drover.sessions s WHERE session_id > $1::uuid ORDER BY session_id LIMIT $2::int)sql",
                                       after.empty() ? "00000000-0000-0000-0000-000000000000" : after, limit);
    for (const pqxx::row& row : rows) {
      SessionInfo info;
      info.session_id = ReadText(row[0]);
      info.attachment = row[1].as<int64_t>();
      info.created = ReadTime(row[2]).value_or(absl::InfinitePast());
      info.expires = ReadTime(row[3]).value_or(absl::InfinitePast());
      info.draining = row[4].as<bool>();
      info.name = ReadText(row[5]);
      info.version = ReadText(row[6]);
      info.controller = ReadText(row[7]);
      info.hello = ReadBytes(row[8]);
      info.leases = row[9].as<int32_t>();
      sessions.push_back(std::move(info));
    }
    return absl::OkStatus();
  });
  if (!status.ok()) return status;
  return sessions;
}

}  // namespace drover
