// Reads a CAR with the packages that JavaScript uses for IPLD, and trusts nothing in it.
//
//   node tests/interop/read_car.mjs FILE
//
// prints a JSON line for each block, {"cid", "codec", "value"}, in the order in which the links lead from the root to
// the blocks. Links are {"/": CID}, bytes {"/": {"bytes": base64}}, integers beyond 2^53 decimal texts. Exit code 1 and
// a line on standard error when there is not exactly one root, a block is not what its CID says or cannot be decoded, a
// link leads to no block, or no link leads to a block.
//
// As a module: `readCar(path)` gives the same without printing.
import { createReadStream, realpathSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { CarBlockIterator } from '@ipld/car'
import * as dagCbor from '@ipld/dag-cbor'
import * as raw from 'multiformats/codecs/raw'
import { CID } from 'multiformats/cid'
import { equals } from 'multiformats/bytes'
import { sha256 } from 'multiformats/hashes/sha2'

const codecs = new Map([dagCbor, raw].map((codec) => [codec.code, codec]))

// Throws unless `block` is what `cid` says. Returns its value.
export async function decodeBlock (cid, block) {
  if (cid.multihash.code !== sha256.code) throw new Error(`${cid} is by another hash than sha2-256`)
  const digest = await sha256.digest(block)
  if (!equals(digest.bytes, cid.multihash.bytes)) throw new Error(`${cid} is not the CID of its block`)
  const codec = codecs.get(cid.code)
  if (codec === undefined) throw new Error(`${cid} is of an unknown codec`)
  return codec.decode(block)
}

// All CIDs in a decoded value, in its order.
export function linksOf (value) {
  const cid = CID.asCID(value)
  if (cid !== null) return [cid]
  if (value === null || typeof value !== 'object' || value instanceof Uint8Array) return []
  return Object.values(value).flatMap(linksOf)
}

// Returns {root, blocks: [{cid, codec, value}]}, the blocks in the order of the links. Throws for all that is wrong.
export async function readCar (path) {
  const car = await CarBlockIterator.fromIterable(createReadStream(path))
  const roots = await car.getRoots()
  if (roots.length !== 1) throw new Error(`there are ${roots.length} roots`)
  const found = new Map()
  for await (const { cid, bytes } of car) {
    found.set(cid.toString(), { cid, codec: codecs.get(cid.code)?.name, value: await decodeBlock(cid, bytes) })
  }

  const blocks = []
  const seen = new Set()
  const toVisit = [roots[0]]
  while (toVisit.length > 0) {
    const cid = toVisit.pop()
    const name = cid.toString()
    if (seen.has(name)) continue
    seen.add(name)
    const block = found.get(name)
    if (block === undefined) throw new Error(`there is no block for the link ${name}`)
    blocks.push(block)
    toVisit.push(...linksOf(block.value).reverse())
  }
  for (const name of found.keys()) {
    if (!seen.has(name)) throw new Error(`no link leads from the root to ${name}`)
  }
  return { root: roots[0], blocks }
}

// What JSON has no form for.
export function toJson (value) {
  const cid = CID.asCID(value)
  if (cid !== null) return { '/': cid.toString() }
  if (typeof value === 'bigint') return value.toString()
  if (value instanceof Uint8Array) return { '/': { bytes: Buffer.from(value).toString('base64') } }
  if (Array.isArray(value)) return value.map(toJson)
  if (value === null || typeof value !== 'object') return value
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, toJson(item)]))
}

async function main () {
  const { blocks } = await readCar(process.argv[2])
  for (const { cid, codec, value } of blocks) {
    console.log(JSON.stringify({ cid: cid.toString(), codec, value: toJson(value) }))
  }
}

if (realpathSync(process.argv[1]) === fileURLToPath(import.meta.url)) {
  main().catch((error) => {
    console.error(`read_car: ${process.argv[2]}: ${error.message}`)
    process.exit(1)
  })
}
