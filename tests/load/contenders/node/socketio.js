// Socket.IO as a team would run it: several processes over its Redis adapter, WebSocket only, no compression.
"use strict";

const http = require("node:http");
const { createAdapter } = require("@socket.io/redis-adapter");
const { createClient } = require("redis");
const { Server } = require("socket.io");
const store = require("./store");

async function main() {
  const publisher = createClient({ socket: { path: process.env.REDIS_SOCKET } });
  const subscriber = publisher.duplicate();
  await Promise.all([publisher.connect(), subscriber.connect()]);

  const server = http.createServer();
  const io = new Server(server, {
    adapter: createAdapter(publisher, subscriber),
    transports: ["websocket"],
    perMessageDeflate: false,
    serveClient: false,
  });

  io.use(async (socket, next) => {
    try {
      socket.data.person = await store.userOfToken(socket.handshake.auth.token);
      next();
    } catch {
      next(new Error("invalid token"));
    }
  });

  io.on("connection", (socket) => {
    // What the handshake was made of is not needed any more (from the memory page of its documentation).
    socket.conn.request = null;
    const { person } = socket.data;

    socket.on("join_room", async ({ room_id: roomId }, done) => {
      if (!(await store.isMember(roomId, person.id))) {
        socket.emit("error", { error: "Invalid room ID" });
        return;
      }
      await socket.join(`chat_${roomId}`);
      done();
    });

    socket.on("message", async ({ room_id: roomId, content }) => {
      const room = `chat_${roomId}`;
      if (!socket.rooms.has(room)) {
        socket.emit("error", { error: "Invalid room ID" });
        return;
      }
      const message = await store.save(roomId, person, content);
      io.to(room).emit("message", { data: message, room_id: roomId, timestamp: message.created_at });
    });

    socket.on("ping", () => socket.emit("pong"));
  });

  server.listen(Number(process.env.PORT), "127.0.0.1", 4096);
}

main();
