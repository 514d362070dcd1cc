// A small client of Drover's JobService for Node, to use or to copy from.
//
//   const drover = new Drover('127.0.0.1:7600');
//   const job = await drover.create({operation: …, manifest: …}, 'night-1');
//   for await (const state of drover.watch(job.job_id)) console.log(state.state);
//   for await (const outcome of drover.failed(job.job_id)) console.log(outcome.task.key, outcome.error_code);
//
// The .proto files are read as they are, from ../../proto or from the folder that DROVER_PROTO names; fields have the
// names that they have there, enums are names, 64-bit numbers are strings.
'use strict';

const {randomUUID} = require('node:crypto');
const path = require('node:path');
const {setTimeout: sleep} = require('node:timers/promises');
const grpc = require('@grpc/grpc-js');
const protoLoader = require('@grpc/proto-loader');

const PROTO = process.env.DROVER_PROTO || path.join(__dirname, '../../proto');
const TERMINAL_STATES = ['COMPLETE', 'CANCELLED', 'FAILED'];
// Trying again can help: the server is away, or busy.
const TRANSIENT = [grpc.status.UNAVAILABLE, grpc.status.RESOURCE_EXHAUSTED];
const CALL_TIMEOUT_MS = 30_000;
const PATIENCE_MS = 120_000;
const PAGE_SIZE = 500;

const {drover: {v1}} = grpc.loadPackageDefinition(protoLoader.loadSync('drover/v1/job_service.proto', {
  includeDirs: [PROTO], keepCase: true, enums: String, longs: String, defaults: true, oneofs: true,
}));

const jittered = () => sleep(100 + Math.random() * 900);

// Calls of one controller, or of several behind one address. Calls that may be made twice are tried again while the
// server is away, for two minutes. Errors have gRPC's code, and details that say what is wrong.
class Drover {
  constructor(address) {
    this.jobs = new v1.JobService(address, grpc.credentials.createInsecure());
  }

  close() {
    this.jobs.close();
  }

  // The request id makes trying again harmless: the same one never makes a second job.
  async create(job, requestId = randomUUID()) {
    return (await this.#again('CreateJob', {request_id: requestId, job})).job;
  }

  async get(jobId) {
    return (await this.#again('GetJob', {job_id: jobId})).job;
  }

  async pause(jobId, reason = '') {
    return (await this.#again('PauseJob', {job_id: jobId, reason})).job;
  }

  // Not tried again: of a job that was resumed already, it would be refused.
  async resume(jobId, reason = '') {
    return (await this.#call('ResumeJob', {job_id: jobId, reason})).job;
  }

  async cancel(jobId, reason = '') {
    return (await this.#again('CancelJob', {job_id: jobId, reason})).job;
  }

  // The job now and after each change, its terminal state last. A stream that breaks is opened again; states that were
  // seen already are left out.
  async* watch(jobId) {
    let version = -1n;
    let lastNews = Date.now();
    for (;;) {
      const stream = this.jobs.WatchJob({job_id: jobId});
      try {
        for await (const {job} of stream) {
          lastNews = Date.now();
          if (BigInt(job.version) < version) continue; // from a controller that is behind the one before
          version = BigInt(job.version);
          yield job;
          if (TERMINAL_STATES.includes(job.state)) return;
        }
      } catch (error) {
        if (!TRANSIENT.includes(error.code) || Date.now() - lastNews > PATIENCE_MS) throw error;
      } finally {
        stream.cancel();
      }
      await jittered();
    }
  }

  // What was recorded of the failed tasks, page by page.
  async* failed(jobId) {
    const request = {job_id: jobId, page_size: PAGE_SIZE};
    do {
      const page = await this.#again('ListTaskOutcomes', request);
      yield* page.outcomes;
      request.page_token = page.next_page_token;
    } while (request.page_token);
  }

  #call(method, request) {
    return new Promise((resolve, reject) => {
      this.jobs[method](request, {deadline: Date.now() + CALL_TIMEOUT_MS},
          (error, response) => error ? reject(error) : resolve(response));
    });
  }

  async #again(method, request) {
    const giveUp = Date.now() + PATIENCE_MS;
    for (;;) {
      try {
        return await this.#call(method, request);
      } catch (error) {
        if (!TRANSIENT.includes(error.code) || Date.now() > giveUp) throw error;
      }
      await jittered();
    }
  }
}

module.exports = {Drover, TERMINAL_STATES};
