#!/usr/bin/env bash
# @confluentinc/schemaregistry 1.10.1 (npm): with autoRegisterSchemas and neither useLatestVersion nor useSchemaId its
# AvroSerializer makes a schema out of the first object that it is given and registers it: record "Record1", in which a
# time in milliseconds is a float of 32 bits. What was 1795255200123 is read as 1795255173120, 27 s off, with no error.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
cd "$place"
echo '{"name": "finding", "version": "1.0.0", "private": true}' >package.json
npm install --silent --no-audit --no-fund @confluentinc/schemaregistry@1.10.1
cat >seen.mjs <<'JAVASCRIPT'
import assert from 'node:assert'
import registry from '@confluentinc/schemaregistry'

const client = registry.SchemaRegistryClient.newClient({ baseURLs: ['mock://'] })
const settings = { autoRegisterSchemas: true }
const serializer = new registry.AvroSerializer(client, registry.SerdeType.VALUE, settings)
const written = { order_id: 'o-1', cancelled_at: 1795255200123 }
const bytes = await serializer.serialize('orders', written)
const schema = JSON.parse((await client.getLatestSchemaMetadata('orders-value')).schema)
const read = await new registry.AvroDeserializer(client, registry.SerdeType.VALUE, {}).deserialize('orders', bytes)
console.log(schema.name, schema.fields[1], read.cancelled_at)
assert.equal(schema.name, 'Record1')
assert.equal(schema.fields[1].type, 'float')
assert.equal(read.cancelled_at, 1795255173120)
JAVASCRIPT
node seen.mjs
echo "seen as described"
