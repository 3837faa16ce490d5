// Two hundred clients come back after a restart: not all at once, and with all that was said.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { client, DEADLINE, joined, Proxy, Server, until } from "./harness.mjs";

const CLIENTS = 200;

const MOMENT = 100; // ms

let server, proxy;
const crowd = [];
before(async () => {
  server = await Server.start();
  proxy = await Proxy.to(server.port);
}, { timeout: DEADLINE });
after(async () => {
  for (const { salon } of crowd) salon.close();
  proxy.close();
  await server.stop();
});

test("200 clients return after a restart without a burst, a lost message or a double", { timeout: 3 * DEADLINE }, async () => {
  const people = [await server.person("writer", "teacher"), await server.person("reader")];
  const room = await server.room("Assembly", ...people);
  for (let number = 0; number < CLIENTS; number++) crowd.push(client(proxy.port, people[number % 2]));
  const rooms = crowd.map(({ salon }) => salon.join(room));
  for (const { salon } of crowd) salon.connect();
  for (const each of rooms) await joined(each);

  await Promise.all(rooms.slice(0, 50).map((each, number) => each.send(`before ${number}`).done));
  // When each means to return for the first time; that one process has them all makes some of them late together.
  const returns = new Map();
  crowd.forEach(({ salon }, number) =>
    salon.on("state", ({ state, delay }) => {
      if (state === "waiting" && !returns.has(number)) returns.set(number, Date.now() + delay);
    }),
  );
  const restart = server.tell("terminate").then(() => server.tell("start"));
  // They go on writing while nobody is there.
  const during = rooms.slice(0, 50).map((each, number) => each.send(`during ${number}`));
  await restart;
  await Promise.all(during.map(({ done }) => done));
  for (const each of rooms) await joined(each);
  await Promise.all(rooms.slice(0, 10).map((each, number) => each.send(`after ${number}`).done));

  const total = 110;
  for (const { told } of crowd) await until(() => told.messages.length >= total, "every message");
  for (const { told } of crowd) {
    assert.deepEqual(told.messages.map(({ seq }) => seq), Array.from({ length: total }, (_, index) => index + 1));
    assert.equal(new Set(told.messages.map(({ content }) => content)).size, total);
  }
  assert.equal(returns.size, CLIENTS);
  const moments = [...returns.values()];
  const busiest = Math.max(...moments.map((from) => moments.filter((other) => other >= from && other < from + MOMENT).length));
  assert.ok(busiest < CLIENTS / 4, `${busiest} within ${MOMENT} ms`);
});
