// Computes the CIDs of events from their stored messages as server/jetstream/README.md and server/ipld/README.md describe
// them, with nothing of persistd, and compares them with those that the messages carry.
//
//   node tests/interop/event_cid.mjs GOLDEN_MESSAGE...
//
// A golden message is the subject, one line for each header, an empty line, and the body.
import { readFileSync } from 'node:fs'
import * as dagCbor from '@ipld/dag-cbor'
import { CID } from 'multiformats/cid'
import { sha256 } from 'multiformats/hashes/sha2'

const files = process.argv.slice(2)
const RAW = 0x55
const utf8 = new TextDecoder('utf-8', { fatal: true })

function parseMessage(bytes) {
  const end = bytes.indexOf('\n\n')
  const [subject, ...lines] = bytes.subarray(0, end).toString('latin1').split('\n')
  const headers = new Map(lines.map((line) => [line.slice(0, line.indexOf(': ')), line.slice(line.indexOf(': ') + 2)]))
  return { subject, headers, body: bytes.subarray(end + 2) }
}

const unescaped = (text, mark) =>
  utf8.decode(Buffer.from(text.replaceAll(new RegExp(`${mark}([0-9A-F]{2})`, 'g'), (_, hex) => String.fromCharCode(parseInt(hex, 16))), 'latin1'))

const cidOf = async (codec, bytes) => CID.createV1(codec, await sha256.digest(bytes))

async function cidsOf({ subject, headers, body }) {
  const [, , context, aggregate, entity, type, schema] = subject.split('.')
  const text = (name) => (headers.has(name) ? unescaped(headers.get(name), '%') : undefined)
  const json = (name) => (headers.has(name) ? JSON.parse(text(name)) : undefined)
  const pair = (name) => text(name).split('/').map(Number)
  // Only what is there; undefined when nothing is.
  const present = (entries) => {
    const there = Object.entries(entries).filter(([, value]) => value !== undefined)
    return there.length > 0 ? Object.fromEntries(there) : undefined
  }
  const hasPayload = headers.has('content-type') || body.length > 0
  const data = hasPayload ? await cidOf(RAW, body) : null
  const [part, parts] = pair('ce-commitpart')
  const [place, places] = headers.has('ce-commitgroup') ? pair('ce-commitgroup') : []
  const block = present({
    persistd: 1,
    context,
    aggregate,
    entity: unescaped(entity, '='),
    version: Number(text('ce-aggregateversion')),
    id: text('ce-id'),
    type,
    schemaVersion: Number(schema.slice(1)),
    time: text('ce-time'),
    recorded: text('ce-recordedtime'),
    contentType: headers.get('content-type'),
    data,
    prev: headers.has('ce-prevcid') ? CID.parse(headers.get('ce-prevcid')) : null,
    commit: present({ id: text('ce-commitid'), part, parts, place, places }),
    metadata: present({
      actor: text('ce-actor'),
      causation: text('ce-causationid'),
      correlation: text('ce-correlationid'),
      traceparent: text('ce-traceparent'),
      custom: json('ce-custommetadata')
    }),
    labels: present({ tags: json('ce-tags'), metadata: json('ce-aggregatemetadata') })
  })
  return { cid: await cidOf(dagCbor.code, dagCbor.encode(block)), data }
}

let failed = 0
for (const file of files) {
  const message = parseMessage(readFileSync(file))
  const { cid, data } = await cidsOf(message)
  const differences = [
    ['ce-cid', `${cid}`],
    ['ce-datacid', data === null ? undefined : `${data}`]
  ].filter(([name, value]) => message.headers.get(name) !== value)
  for (const [name, value] of differences) console.log(`${file}: ${name} is ${message.headers.get(name)}, not ${value}`)
  if (differences.length === 0) console.log(`${file}: ${cid}`)
  failed += differences.length
}
process.exit(failed === 0 && files.length > 0 ? 0 : 1)
