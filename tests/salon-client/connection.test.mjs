// The client against a real server: what it does when the server, or the link to it, goes.

import assert from "node:assert/strict";
import { after, afterEach, before, test } from "node:test";
import { addresses, clientId, SalonClient } from "../../app/chat/static/salon-client/salon-client.js";
import { WebSocket } from "./websocket.mjs";
import { client, connected, DEADLINE, joined, Proxy, Server, until } from "./harness.mjs";

let server, alice, bob, room;
const open = [];

before(async () => {
  server = await Server.start();
  alice = await server.person("alice", "teacher");
  bob = await server.person("bob");
}, { timeout: DEADLINE });
after(() => server.stop());
afterEach(() => {
  for (const each of open.splice(0)) each.close();
});

function keep(each) {
  open.push(each);
  return each;
}

function as(person, port = server.port, options = {}) {
  const made = client(port, person, options);
  keep(made.salon);
  return made;
}

/** Somebody who is in the room. */
async function inRoom(person, port, options, joining) {
  const { salon, told } = as(person, port, options);
  const heard = salon.join(room, joining);
  salon.connect();
  await joined(heard);
  return { salon, told, heard };
}

async function newRoom() {
  room = await server.room("Class 5B", alice, bob);
}

const contents = (told) => told.messages.map(({ content }) => content);

test("a message comes to both, once, and says that it is stored", async () => {
  await newRoom();
  const a = await inRoom(alice);
  const b = await inRoom(bob);
  const entry = a.heard.send("  Good morning ");
  assert.equal(entry.state, "sending");
  const stored = await entry.done;
  assert.equal(entry.state, "sent");
  assert.equal(stored.content, "Good morning");
  assert.equal(a.salon.outbox.length, 0);
  await until(() => b.told.messages.length === 1, "the message");
  assert.deepEqual(contents(a.told), ["Good morning"]);
  assert.equal(b.told.messages[0].isLive, true);
});

test("history comes first, in order, and says that it is not live", async () => {
  await newRoom();
  const a = await inRoom(alice);
  for (const content of ["one", "two", "three"]) await a.heard.send(content).done;
  const b = await inRoom(bob, undefined, {}, { history: 2 });
  assert.deepEqual(contents(b.told), ["two", "three"]);
  assert.deepEqual(b.told.messages.map(({ isLive }) => isLive), [false, false]);
});

test("what is sent while away is kept, and sent once there is a connection", async () => {
  await newRoom();
  const { salon, told } = as(alice);
  const heard = salon.join(room);
  const entries = ["first", "second", "third"].map((content) => heard.send(content));
  assert.deepEqual(entries.map(({ state }) => state), ["sending", "sending", "sending"]);
  salon.connect();
  await Promise.all(entries.map(({ done }) => done));
  await until(() => told.messages.length === 3, "all three");
  assert.deepEqual(contents(told), ["first", "second", "third"]);
});

test("the outbox outlives a reload", async () => {
  await newRoom();
  const kept = new Map();
  const storage = {
    getItem: (key) => kept.get(key) ?? null,
    setItem: (key, value) => kept.set(key, value),
    removeItem: (key) => kept.delete(key),
  };
  as(alice, server.port, { storage }).salon.join(room).send("written in the train");
  const { told } = await inRoom(alice, undefined, { storage });
  await until(() => told.messages.length === 1 && !kept.size, "the message of before");
  assert.deepEqual(contents(told), ["written in the train"]);
});

test("what the server refuses for good has failed, says why, and can be given up", async () => {
  await newRoom();
  const { salon, heard } = await inRoom(alice);
  const entry = heard.send("x".repeat(2001));
  await until(() => entry.state === "failed", "the refusal");
  assert.equal(entry.error.code, "content_too_long");
  assert.equal(salon.outbox.length, 1);
  salon.discard(entry);
  assert.equal(await entry.done, null);
  assert.equal(salon.outbox.length, 0);
});

test("a message with more than text goes over HTTP, under the same name, and comes like any other", async () => {
  await newRoom();
  const b = await inRoom(bob);
  const a = await inRoom(alice);
  const entry = a.heard.send("Yes", { extraData: { reply_to: { seq: 1 } } });
  const stored = await entry.done;
  assert.deepEqual(stored.extra_data, { reply_to: { seq: 1 } });
  assert.equal(stored.client_id, entry.client_id);
  await until(() => b.told.messages.length === 1 && a.told.messages.length === 1, "the message");
});

test("a cut link is replaced, and what was missed comes once and in order", async () => {
  await newRoom();
  const proxy = keep(await Proxy.to(server.port));
  const a = await inRoom(alice);
  const b = await inRoom(bob, proxy.port);
  await a.heard.send("before").done;
  await until(() => b.told.messages.length === 1, "the first");
  proxy.refuse();
  await until(() => b.salon.state === "waiting", "the cut");
  for (const content of ["while", "you were", "away"]) await a.heard.send(content).done;
  const mine = b.heard.send("I was away");
  proxy.heal();
  await mine.done;
  await until(() => b.told.messages.length === 5, "what was missed");
  assert.deepEqual(contents(b.told), ["before", "while", "you were", "away", "I was away"]);
});

test("a message whose answer was lost is stored once", async () => {
  await newRoom();
  const proxy = keep(await Proxy.to(server.port));
  const a = await inRoom(alice);
  const b = await inRoom(bob, proxy.port);
  // The message goes out, and the link is cut as soon as it has arrived, before its answer is back.
  proxy.delay = 300;
  const entry = b.heard.send("Did you get it?");
  await until(() => a.told.messages.length === 1, "the message");
  proxy.cut();
  proxy.delay = 0;
  const stored = await entry.done;
  assert.equal(stored.seq, 1);
  await until(() => b.told.messages.length === 1, "her own message");
  await a.heard.send("Yes").done;
  await until(() => b.told.messages.length === 2, "the answer");
  assert.deepEqual(contents(a.told), ["Did you get it?", "Yes"]);
  assert.deepEqual(contents(b.told), ["Did you get it?", "Yes"]);
});

test("a link that is dead without a word is noticed within ten seconds", async () => {
  await newRoom();
  const proxy = keep(await Proxy.to(server.port));
  const b = await inRoom(bob, proxy.port);
  const began = Date.now();
  proxy.stall();
  await until(() => b.salon.state !== "connected", "to notice");
  const took = Date.now() - began;
  assert.ok(took < 10_000, `it took ${took} ms`);
  proxy.heal();
  await connected(b.salon);
});

test("a slow link is a slow one and not a dead one", async () => {
  await newRoom();
  const proxy = keep(await Proxy.to(server.port));
  proxy.delay = 700;
  const b = await inRoom(bob, proxy.port);
  const entries = Array.from({ length: 20 }, (_, number) => b.heard.send(`slowly ${number}`));
  await Promise.all(entries.map(({ done }) => done));
  assert.deepEqual(contents(b.told), entries.map(({ content }) => content));
  assert.ok(!b.told.states.includes("waiting"), b.told.states.join());
});

test("a restart brings everybody back at once, and a killed server loses nothing", async () => {
  await newRoom();
  const a = await inRoom(alice);
  const b = await inRoom(bob);
  await a.heard.send("before").done;
  for (const how of ["terminate", "kill"]) {
    await server.tell(how);
    const entry = a.heard.send(`during ${how}`);
    assert.equal(entry.state, "sending");
    await server.tell("start");
    await entry.done;
    await until(() => contents(b.told).includes(`during ${how}`), "the message");
  }
  assert.deepEqual(contents(a.told), ["before", "during terminate", "during kill"]);
  assert.deepEqual(contents(b.told), ["before", "during terminate", "during kill"]);
});

test("more than comes by itself is told as a gap", async () => {
  await newRoom();
  const proxy = keep(await Proxy.to(server.port));
  const b = await inRoom(bob, proxy.port);
  proxy.refuse();
  await server.python(`
from chat.models import *
from django.utils import timezone
room = ChatRoom.objects.get(pk=${room})
now = timezone.now()
ChatMessage.objects.bulk_create([ChatMessage(room=room, seq=n, sender_id=${alice.id}, content=f"m{n}", created_at=now, last_update=now) for n in range(1, 602)])
ChatRoom.objects.filter(pk=room.pk).update(last_seq=601)
`);
  proxy.heal();
  await until(() => b.heard.lastSeq === 601, "the newest");
  assert.equal(b.told.messages.length, 500);
  const [{ after, before, next }] = b.told.gaps;
  assert.deepEqual([after, before], [0, 102]);
  const page = await b.salon.request(next);
  assert.equal(page.results[0].seq, 1);
});

test("a token function is asked again when the token is about to end, and nothing ends", async () => {
  await newRoom();
  let asked = 0;
  // Its end is told half a minute before, and ten seconds of tolerance: so at once.
  const shortly = await shortToken(alice, 8);
  const { salon, told } = as(alice, server.port, { token: async () => (asked++ ? alice.token : shortly) });
  salon.join(room);
  salon.connect();
  await until(() => asked === 2, "the second token");
  await new Promise((resolve) => setTimeout(resolve, 500));
  assert.deepEqual(told.states, ["connecting", "connected"]);
});

test("a token that has expired is replaced by asking once, and the messages go out", async () => {
  await newRoom();
  const old = await shortToken(alice, -60);
  const asked = [];
  const { salon } = as(alice, server.port, {
    token: async () => {
      asked.push(asked.length ? alice.token : old);
      return asked.at(-1);
    },
  });
  const entry = salon.join(room).send("with a fresh one");
  salon.connect();
  await entry.done;
  assert.equal(asked.length, 2);
});

test("a token value that has expired ends it, and says so", async () => {
  const { salon, told } = as({ ...alice, token: await shortToken(alice, -60) });
  salon.connect();
  await until(() => told.ends.length, "the end");
  assert.equal(told.ends[0].code, "token_expired");
  assert.equal(salon.state, "closed");
});

test("a backend that cannot be reached for a token is asked again; one that has none ends it", async () => {
  await newRoom();
  let asked = 0;
  const { salon } = as(alice, server.port, {
    token: async () => {
      if (++asked < 2) throw new Error("The backend is away.");
      return alice.token;
    },
  });
  salon.connect();
  await connected(salon);
  const signedOut = as(alice, server.port, { token: async () => null });
  signedOut.salon.connect();
  await until(() => signedOut.told.ends.length, "the end");
  assert.equal(signedOut.told.ends[0].code, "no_token");
});

test("an account that is closed ends it, and it stays away", async () => {
  const eve = await server.person("eve");
  room = await server.room("Chess", alice, eve);
  const { salon, told } = await inRoom(eve);
  await server.python(`
from chat.models import User
user = User.objects.get(pk=${eve.id})
user.is_active = False
user.save()
`);
  await until(() => told.ends.length, "the end");
  assert.equal(told.ends[0].code, "revoked");
  assert.equal(salon.state, "closed");
});

test("a room that is not hers is refused, and the others are joined", async () => {
  await newRoom();
  const foreign = await server.room("Staff room", alice);
  const { salon, told } = as(bob);
  const mine = salon.join(room);
  salon.join(foreign);
  salon.join(987654);
  salon.connect();
  await joined(mine);
  await until(() => told.refused.length === 2, "the refusals");
  assert.deepEqual(told.refused.map(({ room: { id }, code }) => [id, code]), [[foreign, "invalid_room"], [987654, "invalid_room"]]);
  assert.deepEqual([...salon.rooms.keys()], [room]);
});

test("the cookie of somebody else speaks for nobody", async () => {
  await newRoom();
  const key = await server.python(`
from django.contrib.sessions.backends.db import SessionStore
from chat.models import User
user = User.objects.get(pk=${bob.id})
session = SessionStore()
session["_auth_user_id"] = str(user.pk)
session["_auth_user_backend"] = "django.contrib.auth.backends.ModelBackend"
session["_auth_user_hash"] = user.get_session_auth_hash()
session.create()
print(session.session_key)
`);
  class WithCookie extends WebSocket {
    constructor(url) {
      super(url, { Cookie: `sessionid=${key}` });
    }
  }
  const { salon, told } = as({ ...alice, id: null }, server.port, { WebSocket: WithCookie });
  const stored = await Promise.race([salon.join(room).send("It is me").done, (salon.connect(), until(() => told.ends.length, "a message"))]);
  assert.equal(stored.sender, alice.id);
  // Salon's own page, in a tab of before somebody else has signed in: it says nothing in her name.
  const page = as({ id: alice.id, token: null }, server.port, { WebSocket: WithCookie });
  page.salon.join(room).send("Who am I?");
  page.salon.connect();
  await until(() => page.told.ends.length, "the end");
  assert.equal(page.told.ends[0].code, "identity_mismatch");
  assert.equal(told.messages.length, 1);
});

test("who types is told, and that she has stopped", async () => {
  await newRoom();
  const a = await inRoom(alice);
  const b = await inRoom(bob);
  const names = [];
  b.salon.on("typing", (event) => names.push(event.names.join()));
  a.heard.startTyping();
  a.heard.startTyping();
  await until(() => b.heard.typing.size === 1, "that she types");
  await until(() => b.heard.typing.size === 0, "that she has stopped");
  assert.deepEqual(names, ["alice Somebody", ""]);
});

test("presence of the others is known", async () => {
  await newRoom();
  const b = await inRoom(bob);
  const a = await inRoom(alice);
  await until(() => b.salon.presence.get(alice.id)?.status === "online", "alice online");
  a.salon.setStatus("away");
  await until(() => b.salon.presence.get(alice.id)?.status === "away", "alice away");
});

test("read marks that are made while away are sent later", async () => {
  await newRoom();
  const a = await inRoom(alice);
  await a.heard.send("Read this").done;
  const { salon } = as(bob);
  const heard = salon.join(room);
  const updates = [];
  a.salon.on("room_update", (update) => updates.push(update));
  heard.markRead(1);
  salon.connect();
  await until(() => updates.some(({ kind, user_id, seq }) => kind === "read" && user_id === bob.id && seq === 1), "the mark");
});

test("while the machine is offline nothing is tried; when it is back, at once", async () => {
  await newRoom();
  const surroundings = pretendBrowser();
  try {
    const b = await inRoom(bob);
    surroundings.goOffline();
    assert.equal(b.salon.state, "offline");
    const attempts = b.told.states.length;
    await new Promise((resolve) => setTimeout(resolve, 1500));
    assert.equal(b.told.states.length, attempts);
    surroundings.goOnline();
    await connected(b.salon);
  } finally {
    surroundings.end();
  }
});

test("a page that is looked at again does not wait for its turn", async () => {
  await newRoom();
  const surroundings = pretendBrowser();
  const proxy = keep(await Proxy.to(server.port));
  try {
    const b = await inRoom(bob, proxy.port);
    proxy.refuse();
    await until(() => b.told.states.filter((state) => state === "waiting").length >= 4, "several attempts in vain");
    proxy.heal();
    const began = Date.now();
    surroundings.look();
    await connected(b.salon);
    assert.ok(Date.now() - began < 2000);
  } finally {
    surroundings.end();
  }
});

test("debug says what happens, and keeps the token to itself", async () => {
  await newRoom();
  const lines = [];
  await inRoom(alice, undefined, { debug: (...what) => lines.push(JSON.stringify(what)) });
  assert.ok(lines.some((line) => line.includes("join_room")));
  assert.ok(!lines.join().includes(alice.token));
});

test("a listener that fails keeps nothing from the others", async (context) => {
  await newRoom();
  context.mock.method(console, "error", () => {});
  const a = await inRoom(alice);
  a.salon.on("message", () => {
    throw new Error("mine");
  });
  const seen = [];
  a.salon.on("message", ({ message }) => seen.push(message.content));
  await a.heard.send("all the same").done;
  await until(() => seen.length === 1, "the message");
});

test("a problem of the HTTP API is one with a code and a sentence", async () => {
  const { salon } = as(bob);
  await assert.rejects(salon.request("/chats/rooms/create_group/", { method: "POST", body: { name: "Mine" } }), (error) => {
    assert.deepEqual([error.name, error.status, error.code], ["SalonError", 403, "forbidden"]);
    return true;
  });
});

test("it is set up with the four variables, or says what is missing", () => {
  assert.deepEqual(addresses({ host: "chat.example.org" }), {
    url: "wss://chat.example.org/ws/chat/",
    api: "https://chat.example.org",
  });
  assert.equal(addresses({ host: "localhost:8000", protocol: "ws" }).api, "http://localhost:8000");
  assert.throws(() => new SalonClient({}), /url/);
  assert.equal(new Set(Array.from({ length: 100 }, clientId)).size, 100);
});

async function shortToken(person, seconds) {
  return server.python(`
from datetime import timedelta
from chat import auth
from chat.models import User
print(auth.create_token(User.objects.get(pk=${person.id}), timedelta(seconds=${seconds})))
`);
}

/** As much of a browser as the client looks at. */
function pretendBrowser() {
  const page = new EventTarget();
  const around = new EventTarget();
  page.visibilityState = "visible";
  const kept = ["document", "addEventListener", "removeEventListener", "navigator"].map((name) => [
    name,
    Object.getOwnPropertyDescriptor(globalThis, name),
  ]);
  const define = (name, value) => Object.defineProperty(globalThis, name, { value, configurable: true, writable: true });
  const navigator = { onLine: true };
  define("document", page);
  define("addEventListener", around.addEventListener.bind(around));
  define("removeEventListener", around.removeEventListener.bind(around));
  define("navigator", navigator);
  return {
    goOffline() {
      navigator.onLine = false;
      around.dispatchEvent(new Event("offline"));
    },
    goOnline() {
      navigator.onLine = true;
      around.dispatchEvent(new Event("online"));
    },
    look: () => page.dispatchEvent(new Event("visibilitychange")),
    end() {
      for (const each of open.splice(0)) each.close();
      for (const [name, descriptor] of kept) {
        if (descriptor) Object.defineProperty(globalThis, name, descriptor);
        else delete globalThis[name];
      }
    },
  };
}
