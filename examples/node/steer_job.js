#!/usr/bin/env node
// Creates a rehearsal of which some tasks fail, pauses it, lets it go on, and lists what failed; or cancels it.
//
//   steer_job.js --server 127.0.0.1:7600 --manifest files/manifests/keys.csv [--cancel]
'use strict';

const {parseArgs} = require('node:util');
const grpc = require('@grpc/grpc-js');
const {Drover} = require('./drover_client.js');

function rehearsal(manifest) {
  const [store, bucket, ...key] = manifest.split('/');
  return {
    operation: {no_op: {duration: {nanos: 20_000_000}, failure_fraction: 0.1}},
    manifest: {csv: {location: {store, bucket, key: key.join('/')}}},
    priority: 10,
    description: 'steered from Node',
  };
}

// A change that comes too late, because the job has gone on meanwhile, is no error here.
async function steer(change) {
  try {
    await change;
  } catch (error) {
    if (error.code !== grpc.status.FAILED_PRECONDITION) throw error;
    console.log(`too late: ${error.details}`);
  }
}

async function main() {
  const {values: options} = parseArgs({options: {
    server: {type: 'string', default: '127.0.0.1:7600'},
    manifest: {type: 'string'},
    cancel: {type: 'boolean', default: false},
  }});
  if (!options.manifest) throw new Error('--manifest STORE/BUCKET/KEY is missing');
  const drover = new Drover(options.server);
  try {
    const created = await drover.create(rehearsal(options.manifest));
    console.log(`job ${created.job_id} created`);
    let steered = false;
    for await (const job of drover.watch(created.job_id)) {
      const {succeeded_tasks: succeeded, failed_tasks: failed, total_tasks: total} = job.progress;
      console.log(`${job.state}: ${succeeded} succeeded, ${failed} failed of ${total}`);
      if (job.state === 'ACTIVE' && !steered) {
        steered = true;
        if (options.cancel) await steer(drover.cancel(job.job_id, 'an example'));
        else await steer(drover.pause(job.job_id, 'a look at it'));
      } else if (job.state === 'PAUSED') {
        await steer(drover.resume(job.job_id, 'it looks right'));
      }
    }
    let count = 0;
    for await (const {task, error_code: code, message} of drover.failed(created.job_id)) {
      if (++count <= 5) console.log(`failed: ${task.bucket}/${task.key}: ${code} ${message}`);
    }
    console.log(`${count} outcomes of failed tasks`);
  } finally {
    drover.close();
  }
}

main().catch((error) => {
  console.error(error.details || error.message);
  process.exitCode = 1;
});
