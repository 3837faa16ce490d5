// What both servers share: who somebody is, whether she is in a room, and keeping what she says.
"use strict";

const jwt = require("jsonwebtoken");
const { Pool } = require("pg");

// A pool of ten connections is the default of pg. Each statement has a name, so PostgreSQL plans it once a connection.
const pool = new Pool();
const key = process.env.TOKEN_KEY;

// Asked for, it collects its garbage (two rounds: the first lets go of what the second frees), before memory is read.
process.on("SIGUSR2", () => {
  global.gc();
  setImmediate(global.gc);
});

async function userOfToken(token) {
  const claims = jwt.verify(token, key, { algorithms: ["HS256"] });
  const { rows } = await pool.query({
    name: "user",
    text: "SELECT id, first_name, last_name FROM auth_user WHERE id = $1 AND is_active",
    values: [claims.user_id],
  });
  if (rows.length === 0) throw new Error("unknown person");
  const name = `${rows[0].first_name} ${rows[0].last_name}`.trim();
  return { id: rows[0].id, name, role: "student", avatar: null };
}

async function isMember(roomId, userId) {
  const { rows } = await pool.query({
    name: "member",
    text: "SELECT 1 FROM room_membership WHERE room_id = $1 AND user_id = $2",
    values: [roomId, userId],
  });
  return rows.length > 0;
}

async function save(roomId, person, content) {
  const { rows } = await pool.query({
    name: "save",
    text:
      "INSERT INTO room_message (uuid, room_id, sender_id, content, created_at) " +
      "VALUES (gen_random_uuid(), $1, $2, $3, now()) RETURNING id, uuid, created_at",
    values: [roomId, person.id, content],
  });
  const id = Number(rows[0].id);
  return {
    id,
    uuid: rows[0].uuid,
    seq: id,
    content,
    sender: person.id,
    chat: roomId,
    created_at: rows[0].created_at,
    last_update: rows[0].created_at,
    is_deleted: false,
    extra_data: null,
    message_type: "text",
    attachment_url: null,
    voice_note_url: null,
    attachments: [],
    client_id: null,
    sender_info: person,
  };
}

module.exports = { userOfToken, isMember, save };
