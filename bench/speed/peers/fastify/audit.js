// Lines that are safely on disk when their promise resolves; all that wait share one fdatasync.
import { fdatasync, openSync, write } from 'node:fs'
import { promisify } from 'node:util'

const writing = promisify(write)
const syncing = promisify(fdatasync)

export class Audit {
  constructor (file) {
    this.descriptor = openSync(file, 'a', 0o600)
    this.waiting = []
    this.busy = false
  }

  append (record) {
    return new Promise((resolve, reject) => {
      this.waiting.push({ line: JSON.stringify(record) + '\n', resolve, reject })
      if (!this.busy) this.flush()
    })
  }

  async flush () {
    this.busy = true
    while (this.waiting.length > 0) {
      const batch = this.waiting
      this.waiting = []
      try {
        await writing(this.descriptor, batch.map(each => each.line).join(''))
        await syncing(this.descriptor)
        for (const each of batch) each.resolve()
      } catch (error) {
        for (const each of batch) each.reject(error)
      }
    }
    this.busy = false
  }
}
