// Clients of ioredis that write and read until their input ends, and tell what they see. Arguments and output are those
// of client.py; there are no carts in mode updates, because this library selects databases by number only.
'use strict'

const Redis = require('ioredis')

const [NAME, ASKED, COUNT, ...PLACES] = process.argv.slice(2)
const UPDATES = ASKED === 'updates'
const MODE = UPDATES ? 'list' : ASKED
const NODES = PLACES.map((place) => {
  const at = place.lastIndexOf(':')
  return { host: place.slice(0, at), port: Number(place.slice(at + 1)) }
})
const VALUE_BYTES = 2048
const PACE_MS = 10
const TIMEOUT_MS = 1000

let done = false
let callsHome = 0
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms))

function tell(kind, worker, key, words = '') {
  process.stdout.write(`${kind} ${Date.now()} ${worker} ${key} ${String(words).split(/\s+/).join(' ')}\n`)
}

function value(key) {
  return `${key};`.repeat(Math.floor(VALUE_BYTES / key.length)).slice(0, VALUE_BYTES)
}

// The library as it is: it connects again after its own pauses and sends again what was not answered. All that is added
// is that it does so at the next node.
function toNode(worker) {
  const client = new Redis({ ...NODES[worker.node], connectTimeout: TIMEOUT_MS, commandTimeout: TIMEOUT_MS })
  client.on('error', () => {})
  client.on('close', () => {
    if (done || worker.client !== client) return
    tell('moved', worker.number, '-', `node ${worker.node + 1}: closed`)
    worker.node = (worker.node + 1) % NODES.length
    Object.assign(client.options, NODES[worker.node])
  })
  return client
}

function toCluster() {
  const client = new Redis.Cluster(NODES)
  client.on('error', () => {})
  return client
}

class Worker {
  constructor(number) {
    this.number = number
    this.home = number % NODES.length
    this.node = this.home
    this.calls = 0
    this.client = null
    this.rounds = 0
  }

  goHome() {
    if (this.calls === callsHome || MODE !== 'list') return
    this.calls = callsHome
    if (this.node !== this.home && this.client !== null) {
      this.leave()
    }
    this.node = this.home
  }

  leave() {
    const { client } = this
    this.client = null
    client.disconnect()
  }

  // What the command gives, once it succeeds; undefined when it is time to end.
  async attempt(key, command) {
    while (!done) {
      try {
        if (this.client === null) {
          this.client = MODE === 'list' ? toNode(this) : toCluster()
        }
        return await command(this.client)
      } catch (error) {
        const where = MODE === 'list' ? `node ${this.node + 1}: ` : ''
        tell('fail', this.number, key, `${where}${error.name}: ${error.message}`)
        if (MODE === 'list') {
          this.leave()
          this.node = (this.node + 1) % NODES.length
        }
        await sleep(PACE_MS)
      }
    }
    return undefined
  }

  async run() {
    const written = []
    while (!done) {
      this.goHome()
      const key = `${NAME}:${this.number}:${written.length}`
      if (await this.attempt(key, (client) => client.set(key, value(key)))) {
        tell('ack', this.number, key)
        written.push(key)
      }
      if (written.length > 0) {
        await this.look(written[Math.floor(Math.random() * written.length)])
      }
      if (UPDATES) await this.update()
      await sleep(PACE_MS)
    }
    if (this.client !== null) this.leave()
  }

  // One of each; the n-th round of this worker.
  async update() {
    this.rounds += 1
    const own = `${NAME}:${this.number}`
    const { rounds } = this
    await this.expect(`count:${own}`, (client) => client.incr(`count:${own}`), rounds)
    const name = `name:${own}:${rounds}`
    await this.expect(name, (client) => client.set(name, own, 'NX'), 'OK')
    await this.expect(`text:${own}`, (client) => client.append(`text:${own}`, 'word'), 4 * rounds)
  }

  async expect(key, command, wanted) {
    const found = await this.attempt(key, command)
    if (found === undefined) return
    tell(found === wanted ? 'did' : 'wrong', this.number, key, found === wanted ? '' : `${found}, not ${wanted}`)
  }

  async look(key) {
    const found = await this.attempt(key, (client) => client.get(key))
    if (found !== undefined) {
      tell(found === value(key) ? 'read' : 'lost', this.number, key, found === null ? '(nil)' : found.slice(0, 40))
    }
  }
}

process.stdin.on('data', (bytes) => { callsHome += bytes.length })
process.stdin.on('end', () => { done = true })
const workers = Array.from({ length: Number(COUNT) }, (_, number) => new Worker(number))
Promise.all(workers.map((worker) => worker.run())).then(() => process.exit(0))
