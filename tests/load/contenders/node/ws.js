// The least that a chat can do in Node: `ws`, a map of rooms, and Redis between processes. Written by hand.
"use strict";

const http = require("node:http");
const { createClient } = require("redis");
const { Sender, WebSocketServer } = require("ws");
const store = require("./store");

async function main() {
  const publisher = createClient({ socket: { path: process.env.REDIS_SOCKET } });
  const subscriber = publisher.duplicate();
  await Promise.all([publisher.connect(), subscriber.connect()]);

  const rooms = new Map();

  // The frame is made once; each socket gets the same bytes.
  function deliver(roomId, payload) {
    const frame = Sender.frame(payload, { fin: true, rsv1: false, opcode: 1, mask: false, readOnly: true });
    for (const socket of rooms.get(roomId) ?? []) {
      const stream = socket._socket;
      stream.cork();
      for (const piece of frame) stream.write(piece);
      stream.uncork();
    }
  }

  await subscriber.pSubscribe("chat_*", (payload, channel) => deliver(Number(channel.subarray(5)), payload), true);

  async function handle(socket, text) {
    const { type, data } = JSON.parse(text);
    if (type === "message") {
      const roomId = data.room_id;
      if (!socket.rooms.has(roomId)) {
        socket.send('{"type":"error","data":{"error":"Invalid room ID"}}');
        return;
      }
      const message = await store.save(roomId, socket.person, data.content);
      const event = { type: "message", data: message, room_id: roomId, timestamp: message.created_at };
      await publisher.publish(`chat_${roomId}`, JSON.stringify(event));
    } else if (type === "join_room") {
      const roomId = data.room_id;
      if (!(await store.isMember(roomId, socket.person.id))) {
        socket.send('{"type":"error","data":{"error":"Invalid room ID"}}');
        return;
      }
      socket.rooms.add(roomId);
      if (!rooms.has(roomId)) rooms.set(roomId, new Set());
      rooms.get(roomId).add(socket);
    } else if (type === "ping") {
      socket.send('{"type":"pong","data":{}}');
    }
  }

  const server = http.createServer();
  const sockets = new WebSocketServer({ noServer: true, perMessageDeflate: false });

  server.on("upgrade", async (request, stream, head) => {
    let person;
    try {
      person = await store.userOfToken(new URL(request.url, "http://localhost").searchParams.get("token"));
    } catch {
      stream.end("HTTP/1.1 403 Forbidden\r\nConnection: close\r\n\r\n");
      return;
    }
    sockets.handleUpgrade(request, stream, head, (socket) => {
      socket.person = person;
      socket.rooms = new Set();
      // One event of a socket after the other, as they came.
      let last = Promise.resolve();
      socket.on("message", (text) => {
        last = last.then(() => handle(socket, text)).catch((error) => console.error(error));
      });
      socket.on("close", () => {
        for (const roomId of socket.rooms) {
          rooms.get(roomId).delete(socket);
          if (rooms.get(roomId).size === 0) rooms.delete(roomId);
        }
      });
    });
  });

  // A socket that does not answer a ping until the next one is gone.
  setInterval(() => {
    for (const socket of sockets.clients) {
      if (socket.isWaiting) {
        socket.terminate();
        continue;
      }
      socket.isWaiting = true;
      socket.once("pong", () => {
        socket.isWaiting = false;
      });
      socket.ping();
    }
  }, 25_000);

  server.listen(Number(process.env.PORT), "127.0.0.1", 4096);
}

main();
