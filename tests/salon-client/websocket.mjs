// A WebSocket for Node, of which older releases have none: as much of RFC 6455 and of the browser's interface as a
// client of Salon needs.

import { createHash, randomBytes } from "node:crypto";
import { request } from "node:http";

const MAGIC = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"; // RFC 6455, 1.3

export class WebSocket {
  readyState = 0;
  #socket = null;
  #buffer = Buffer.alloc(0);
  #closing = { code: 1006, reason: "" };

  constructor(url, more = {}) {
    const key = randomBytes(16).toString("base64");
    const headers = { Connection: "Upgrade", Upgrade: "websocket", "Sec-WebSocket-Key": key, "Sec-WebSocket-Version": 13, ...more };
    this.#request = request(url.replace(/^ws/, "http"), { headers, agent: false });
    this.#request.on("upgrade", (answer, socket, head) => {
      const expected = createHash("sha1").update(key + MAGIC).digest("base64");
      if (answer.headers["sec-websocket-accept"] !== expected) {
        socket.destroy();
        this.#closed();
        return;
      }
      this.#socket = socket;
      socket.setNoDelay(true);
      socket.on("data", (data) => this.#read(data));
      socket.on("close", () => this.#closed());
      socket.on("error", () => {});
      this.readyState = 1;
      this.onopen?.({});
      if (head.length) this.#read(head);
    });
    this.#request.on("response", () => {
      this.#request.destroy();
      this.#closed();
    });
    this.#request.on("error", () => this.#closed());
    this.#request.end();
  }

  #request;

  send(text) {
    this.#write(0x1, Buffer.from(text));
  }

  close(code = 1000) {
    if (this.readyState === 0) this.#request.destroy();
    if (this.readyState !== 1) return;
    this.readyState = 2;
    this.#write(0x8, Buffer.from([code >> 8, code & 0xff]));
    this.#socket.end();
  }

  #write(opcode, payload) {
    const mask = randomBytes(4);
    const length = payload.length;
    const header = length < 126 ? Buffer.alloc(2) : length < 65536 ? Buffer.alloc(4) : Buffer.alloc(10);
    header[0] = 0x80 | opcode;
    header[1] = 0x80 | (length < 126 ? length : length < 65536 ? 126 : 127);
    if (header.length === 4) header.writeUInt16BE(length, 2);
    if (header.length === 10) header.writeBigUInt64BE(BigInt(length), 2);
    this.#socket.write(Buffer.concat([header, mask, payload.map((byte, index) => byte ^ mask[index % 4])]));
  }

  #read(data) {
    this.#buffer = Buffer.concat([this.#buffer, data]);
    for (;;) {
      const buffer = this.#buffer;
      if (buffer.length < 2) return;
      let length = buffer[1] & 0x7f;
      let start = 2;
      if (length === 126) {
        if (buffer.length < 4) return;
        length = buffer.readUInt16BE(2);
        start = 4;
      } else if (length === 127) {
        if (buffer.length < 10) return;
        length = Number(buffer.readBigUInt64BE(2));
        start = 10;
      }
      if (buffer.length < start + length) return;
      const payload = buffer.subarray(start, start + length);
      this.#buffer = buffer.subarray(start + length);
      this.#frame(buffer[0] & 0xf, payload);
    }
  }

  #frame(opcode, payload) {
    if (opcode === 0x1) this.onmessage?.({ data: payload.toString() });
    else if (opcode === 0x9) this.#write(0xa, payload);
    else if (opcode === 0x8) {
      this.#closing = { code: payload.length ? payload.readUInt16BE(0) : 1005, reason: payload.subarray(2).toString() };
      if (this.readyState === 1) this.#write(0x8, payload.subarray(0, 2));
      this.readyState = 2;
      this.#socket.end();
    }
  }

  #closed() {
    if (this.readyState === 3) return;
    this.readyState = 3;
    this.onclose?.(this.#closing);
  }
}
