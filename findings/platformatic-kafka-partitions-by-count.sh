#!/usr/bin/env bash
# @platformatic/kafka 2.12.1 beside kafkajs 2.2.4 (murmur2 as the Java client): the default partitioner takes the hash
# unsigned (>>> 0) where Java masks the sign off (& 0x7fffffff). The two agree for every key where the number of partitions
# is a power of two, and for about half of the keys at 6 or 12: a test on 8 or 16 partitions proves nothing about 12.
# `compatibilityPartitioner` agrees at every count.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
cd "$place"
npm init --yes >/dev/null
npm install --silent --no-fund --no-audit --engine-strict=false @platformatic/kafka@2.12.1 kafkajs@2.2.4 >/dev/null 2>&1
cat >see.js <<'JS'
const { compatibilityPartitioner, defaultPartitioner } = require('@platformatic/kafka')
const { Partitioners } = require('kafkajs')
const java = Partitioners.DefaultPartitioner()
const keys = Array.from({ length: 1000 }, (_, n) => Buffer.from(`order-${n}`))

function agreeing (partitioner, count) {
  const metadata = Array.from({ length: count }, (_, partitionId) => ({ partitionId, leader: 1 }))
  return keys.filter(key =>
    partitioner({}, key) % count === java({ topic: 't', partitionMetadata: metadata, message: { key } })).length
}

let failed = false
for (const count of [6, 8, 12, 16]) {
  const [byDefault, compatible] = [agreeing(defaultPartitioner, count), agreeing(compatibilityPartitioner, count)]
  const power = (count & (count - 1)) === 0
  console.log(`${count} partitions: default ${byDefault}, compatibility ${compatible} of ${keys.length} keys as Java`)
  failed ||= compatible !== keys.length || (power ? byDefault !== keys.length : byDefault < 400 || byDefault > 600)
}
process.exit(failed ? 1 : 0)
JS
node see.js
echo "seen as described"
