// The conversation of the page at `/`: one WebSocket, the rooms of the person who is logged in.

const { user, rooms: known, words } = JSON.parse(document.getElementById("start").textContent);
const rooms = new Map(known.map((room) => [room.id, room]));
const element = (id) => document.getElementById(id);
const RETRY_AFTER = 3000; // ms
const SERVICE_RESTART = 1012; // RFC 6455's registry of close codes
const RESTART_SPREAD = 500; // ms: another process is there at once, and not everybody is to ask it in the same moment
const PING_EVERY = 30000; // ms
const TYPING_ENDS_AFTER = 3000; // ms

let socket;
let current;
let typingTimer;
let typingSent = false;
const typists = new Map();

function send(type, data = {}) {
  if (socket?.readyState !== WebSocket.OPEN) return false;
  socket.send(JSON.stringify({ type, data, room_id: data.room_id, user_id: user.id, timestamp: new Date().toISOString() }));
  return true;
}

function connect() {
  const scheme = location.protocol === "https:" ? "wss" : "ws";
  socket = new WebSocket(`${scheme}://${location.host}/ws/chat/`);
  socket.onopen = () => {
    element("state").textContent = words.connected;
    send("auth", { user_id: user.id });
    for (const { id, messages } of rooms.values()) send("join_room", { room_id: id, since: messages.at(-1)?.seq ?? 0 });
  };
  socket.onmessage = ({ data }) => receive(JSON.parse(data));
  socket.onclose = ({ code }) => {
    if (code === 4401) {
      element("state").textContent = words.refused;
      return;
    }
    element("state").textContent = words.connecting;
    setTimeout(connect, code === SERVICE_RESTART ? Math.random() * RESTART_SPREAD : RETRY_AFTER);
  };
}

function receive({ type, data }) {
  switch (type) {
    case "message":
      add(data);
      break;
    case "typing":
      if (data.is_typing) typists.set(data.user_id, { room: data.room_id, name: data.user_name });
      else typists.delete(data.user_id);
      showTypists();
      break;
    case "room_update":
      update(data);
      break;
    case "history":
      // More was missed than comes at once: begin anew with the newest.
      if (data.next) location.reload();
      data.messages.forEach(add);
      data.changed.forEach(replace);
      break;
    case "error":
      showError(data.error);
      break;
  }
}

function add(message) {
  const room = rooms.get(message.chat);
  if (!room || room.messages.some(({ uuid }) => uuid === message.uuid)) return;
  const isNewest = (room.messages.at(-1)?.seq ?? 0) < message.seq;
  room.messages.push(message);
  room.messages.sort((one, other) => one.seq - other.seq);
  typists.delete(message.sender);
  showTypists();
  if (room === current && isNewest) {
    show(message);
    element("messages").lastElementChild.scrollIntoView({ block: "end" });
  } else if (room === current) {
    open(room);
  } else {
    button(room.id).classList.add("unread");
  }
}

function update(change) {
  const room = rooms.get(change.room_id);
  if (change.kind === "participants_added" && !room && change.participants.some(({ id }) => id === user.id)) {
    location.reload();
    return;
  }
  if (!room) return;
  const gone = change.kind === "deleted" || (change.kind === "participants_removed" && change.participants.some(({ id }) => id === user.id));
  if (gone) {
    location.reload();
  } else if (change.kind === "renamed") {
    room.name = change.name;
    button(room.id).firstElementChild.textContent = change.name;
    if (room === current) element("room-name").textContent = change.name;
  } else if (change.message) {
    replace(change.message);
  }
}

function replace(message) {
  const room = rooms.get(message.chat);
  const index = room?.messages.findIndex(({ uuid }) => uuid === message.uuid) ?? -1;
  if (index < 0) return;
  room.messages[index] = message;
  if (room === current) open(room);
}

function show(message) {
  const item = document.createElement("li");
  item.classList.toggle("mine", message.sender === user.id);
  item.classList.toggle("deleted", message.is_deleted);
  const by = document.createElement("small");
  const time = document.createElement("time");
  time.dateTime = message.created_at;
  time.textContent = new Date(message.created_at).toLocaleTimeString(document.documentElement.lang, { timeStyle: "short" });
  by.append(`${message.sender_info.name} · `, time);
  const content = document.createElement("bdi");
  content.textContent = message.is_deleted ? words.deleted : message.content;
  item.append(by, content);
  element("messages").append(item);
}

function showTypists() {
  const names = [...typists.values()].filter(({ room }) => room === current?.id).map(({ name }) => name);
  element("typing").textContent = names.length ? words.typing.replace("%s", names.join(", ")) : "";
}

function showError(sentence) {
  element("error").textContent = sentence;
  element("error").hidden = !sentence;
}

function button(id) {
  return document.querySelector(`[data-room="${id}"]`);
}

function open(room) {
  current = room;
  for (const other of document.querySelectorAll("[data-room]")) other.removeAttribute("aria-current");
  button(room.id).setAttribute("aria-current", "true");
  button(room.id).classList.remove("unread");
  element("room-name").textContent = room.name;
  element("messages").replaceChildren();
  room.messages.forEach(show);
  element("messages").lastElementChild?.scrollIntoView({ block: "end" });
  showTypists();
  showError("");
}

function setTyping(isTyping) {
  clearTimeout(typingTimer);
  if (isTyping) typingTimer = setTimeout(() => setTyping(false), TYPING_ENDS_AFTER);
  if (isTyping !== typingSent && current && send("typing", { room_id: current.id, is_typing: isTyping })) typingSent = isTyping;
}

element("content").addEventListener("input", () => setTyping(true));
element("compose").addEventListener("submit", (event) => {
  event.preventDefault();
  const content = element("content").value.trim();
  if (!content || !current) return;
  setTyping(false);
  if (send("message", { room_id: current.id, content })) {
    element("content").value = "";
    showError("");
  } else {
    showError(words.connecting);
  }
});
for (const each of document.querySelectorAll("[data-room]")) {
  each.addEventListener("click", () => {
    setTyping(false);
    open(rooms.get(Number(each.dataset.room)));
  });
}
setInterval(() => send("ping"), PING_EVERY);

element("compose").hidden = rooms.size === 0;
if (rooms.size) open(rooms.values().next().value);
connect();
