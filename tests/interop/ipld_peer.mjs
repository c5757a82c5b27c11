// The other side of ipld_test.cc: the packages that JavaScript uses for IPLD.
//
//   node ipld_peer.mjs check BLOCKS
//     reads lines "CID HEX" with blocks that are ours. Fails unless each decodes, encodes to the same bytes, and has
//     that CID.
//   node ipld_peer.mjs make SEED COUNT BLOCKS REFUSED CAR
//     writes COUNT random blocks as such lines, bytes that @ipld/dag-cbor refuses as lines "HEX", and a CAR of the
//     blocks.
import { createWriteStream, readFileSync, writeFileSync } from 'node:fs'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { CarWriter } from '@ipld/car'
import * as dagCbor from '@ipld/dag-cbor'
import { CID } from 'multiformats/cid'
import * as digest from 'multiformats/hashes/digest'
import { identity } from 'multiformats/hashes/identity'
import { sha256 } from 'multiformats/hashes/sha2'

const toHex = (bytes) => Buffer.from(bytes).toString('hex')
const fromHex = (hex) => Uint8Array.from(Buffer.from(hex, 'hex'))

async function cidOf (block) {
  return CID.createV1(dagCbor.code, await sha256.digest(block))
}

async function check (path) {
  const lines = readFileSync(path, 'utf8').trimEnd().split('\n')
  for (const line of lines) {
    const [cid, hex] = line.split(' ')
    const block = fromHex(hex)
    const again = toHex(dagCbor.encode(dagCbor.decode(block)))
    if (again !== hex) throw new Error(`${hex} is encoded as ${again}`)
    const expected = await cidOf(block)
    if (cid !== expected.toString()) throw new Error(`${hex} has the CID ${expected}, not ${cid}`)
  }
  console.log(`${lines.length} blocks are the same`)
}

// Random numbers that a seed repeats: a linear congruential generator with the constants of Knuth's MMIX.
class Random {
  constructor (seed) { this.state = BigInt(seed) }

  uint64 () {
    const half = () => {
      this.state = BigInt.asUintN(64, this.state * 6364136223846793005n + 1442695040888963407n)
      return this.state >> 32n // The upper bits are the random ones.
    }
    return half() << 32n | half()
  }

  below (bound) { return Number(this.uint64() % BigInt(bound)) }
  bytes (count) { return Uint8Array.from({ length: count }, () => this.below(256)) }
  list (count, make) { return Array.from({ length: count }, make) }
}

function randomText (random) {
  const code = () => {
    const point = random.below([0x80, 0x800, 0x10000, 0x110000][random.below(4)])
    const surrogate = point >= 0xD800 && point <= 0xDFFF
    return surrogate ? 'a' : String.fromCodePoint(point)
  }
  return random.list(random.below(40), code).join('')
}

function randomCid (random) {
  const sha = digest.create(sha256.code, random.bytes(32))
  switch (random.below(3)) {
    case 0: return CID.createV0(sha)
    case 1: return CID.createV1(random.below(1 << 20), sha)
    default: return CID.createV1(random.below(1 << 20), identity.digest(random.bytes(random.below(60))))
  }
}

function randomValue (random, depth) {
  const scalars = [
    () => null,
    () => random.below(2) === 0,
    () => random.uint64() >> BigInt(random.below(64)),
    () => -1n - (random.uint64() >> BigInt(random.below(64))),
    () => (random.below(1 << 30) + 0.5) * 10 ** (random.below(20) - 10),
    () => randomText(random),
    () => random.bytes(random.below(300)),
    () => randomCid(random)
  ]
  const inner = () => randomValue(random, depth - 1)
  const kind = random.below(depth === 0 ? scalars.length : scalars.length * 2)
  if (kind < scalars.length) return scalars[kind]()
  if (kind % 2 === 0) return random.list(random.below(6), inner)
  return Object.fromEntries(random.list(random.below(6), () => [randomText(random), inner()]))
}

// What the specification forbids and @ipld/dag-cbor refuses.
const forbidden = Object.entries({
  'too short, too long': '- 18 1bffffffffffffff 62 6261 81 a1 a16161 0000 a0a0',
  'heads in a long form': '1817 1900ff 1a0000ffff 1b00000000ffffffff 3817 390001 580161 780161 980100 b800',
  'indefinite lengths': '5f4101ff 7f6161ff 9f01ff bf616101ff ff',
  'other tags': 'c001 c24101 d9d9f700 d82b4100',
  'links that are no CIDs': 'd82a00 d82a40 d82a6161 d82a4101 d82a4100 d82a480155000401020304 ' +
    'd82a480001550004010203 d82a4a00015500040102030405 d82a49000255000401020304',
  'keys that are no texts or there twice': 'a10102 a1416101 a1f601 a2616101616102',
  'NaN and infinities': 'f97e00 f97c00 fa7f800000 fb7ff8000000000000 fb7ff0000000000000 fbfff0000000000000',
  'what has no meaning': 'e0 f0 f8ff f818 fc 1c 1d 1e 3f df'
}).flatMap(([what, list]) => list.split(' ').map((hex) => ({ what, block: fromHex(hex.replace('-', '')) })))

function isRefused (block) {
  try {
    dagCbor.decode(block)
    return false
  } catch {
    return true
  }
}

// A copy with one byte changed, added or missing.
function spoil (random, block) {
  const at = random.below(block.length)
  const cut = random.below(3)
  return Uint8Array.from([...block.slice(0, at), ...random.bytes(cut), ...block.slice(at + 1)])
}

async function make (seed, count, blocksPath, refusedPath, carPath) {
  const random = new Random(seed)
  const blocks = []
  const refused = forbidden.map(({ block }) => block)
  for (const { what, block } of forbidden) {
    if (!isRefused(block)) throw new Error(`@ipld/dag-cbor does not refuse ${toHex(block)}: ${what}`)
  }
  while (blocks.length < count) {
    const bytes = dagCbor.encode(randomValue(random, 3))
    blocks.push({ cid: await cidOf(bytes), bytes })
    const spoilt = spoil(random, bytes)
    if (isRefused(spoilt)) refused.push(spoilt)
  }
  const lines = (list) => list.map((line) => line + '\n').join('')
  writeFileSync(blocksPath, lines(blocks.map(({ cid, bytes }) => `${cid} ${toHex(bytes)}`)))
  writeFileSync(refusedPath, lines(refused.map(toHex)))

  const { writer, out } = CarWriter.create([blocks[0].cid])
  const written = pipeline(Readable.from(out), createWriteStream(carPath))
  for (const block of blocks) await writer.put(block)
  await writer.close()
  await written
  console.log(`made ${blocks.length} blocks; ${refused.length} that are refused`)
}

const [command, ...args] = process.argv.slice(2)
await { check, make }[command](...args)
