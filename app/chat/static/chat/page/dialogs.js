// What opens above the page: a new room, who is in a room, a question before something is gone, what one can do with
// a message.

import { announce, avatar, byId, el, icon, name, say, start } from "./dom.js";

const SEARCH_AFTER = 250; // ms after the last key

let dialogs = 0;

/** A dialog with a heading and a way out, which is removed when it closes. */
function dialog(title, ...content) {
  const id = `dialog-${++dialogs}`;
  const heading = el("h2", { id }, title);
  const close = el("button", { type: "button", class: "icon-button", "aria-label": say("close") }, icon("close"));
  const node = el("dialog", { "aria-labelledby": id }, el("header", {}, heading, close), ...content);
  close.addEventListener("click", () => node.close());
  node.addEventListener("close", () => node.remove());
  node.addEventListener("click", (event) => {
    if (event.target === node) node.close();
  });
  document.body.append(node);
  node.showModal();
  return node;
}

/** Ask before something is done that cannot be undone. */
export function confirm(question, deed) {
  return new Promise((resolve) => {
    const yes = el("button", { type: "button", class: "danger" }, deed);
    const no = el("button", { type: "button", autofocus: true }, say("cancel"));
    const node = dialog(question, el("div", { class: "choices" }, no, yes));
    yes.addEventListener("click", () => {
      resolve(true);
      node.close();
    });
    no.addEventListener("click", () => node.close());
    node.addEventListener("close", () => resolve(false));
  });
}

/** What can be done with a message, beside its button. `choices`: `[icon, words, deed, isDangerous]`. */
export function openMenu(button, choices) {
  const items = choices.map(([picture, words, deed, isDangerous]) => {
    const item = el("button", { type: "button", role: "menuitem", tabindex: "-1", class: isDangerous ? "danger" : null }, icon(picture), words);
    item.addEventListener("click", () => {
      close(true);
      deed();
    });
    return item;
  });
  const menu = el("div", { role: "menu", class: "menu", popover: "manual", "aria-label": button.getAttribute("aria-label") }, ...items);
  const close = (isBack = false) => {
    document.removeEventListener("pointerdown", outside, true);
    menu.remove();
    if (isBack) (button.isConnected ? (button.closest("li") ?? button) : document.body).focus();
  };
  const outside = (event) => menu.contains(event.target) || close();
  menu.addEventListener("keydown", (event) => {
    const at = items.indexOf(document.activeElement);
    const next = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: items.length - 1 }[event.key];
    if (next !== undefined) items.at(next % items.length).focus();
    else if (event.key === "Escape" || event.key === "Tab") close(true);
    else return;
    event.preventDefault();
    event.stopPropagation();
  });
  // What it belongs to scrolls away under it; what has just been focused may still be on its way.
  setTimeout(() => byId("scroller").addEventListener("scroll", () => menu.isConnected && close(), { once: true, passive: true }), 200);
  document.addEventListener("pointerdown", outside, true);
  byId("page").append(menu);
  menu.showPopover();
  const at = button.getBoundingClientRect();
  const { width, height } = menu.getBoundingClientRect();
  menu.style.left = `${Math.max(8, Math.min(at.left, innerWidth - width - 8))}px`;
  menu.style.top = `${at.bottom + height + 8 > innerHeight ? Math.max(8, at.top - height - 4) : at.bottom + 4}px`;
  items[0].focus();
}

/** A field that finds people, and the list of those it has found. `onChosen(person)`. */
function peopleSearch(salon, isExcluded, onChosen) {
  const list = el("ul", { class: "people", id: "found-people" });
  const status = el("p", { class: "quiet", role: "status" });
  const field = el("input", { type: "search", id: "people-search", autocomplete: "off", dir: "auto", placeholder: say("search_people") });
  let timer;
  let asked = 0;
  const search = async () => {
    const number = ++asked;
    let found;
    try {
      found = await salon.request(`/chats/people/?name=${encodeURIComponent(field.value.trim())}`);
    } catch (error) {
      status.textContent = error.message;
      return;
    }
    if (number !== asked) return;
    const others = found.results.filter((person) => !isExcluded(person.id));
    list.replaceChildren(
      ...others.map((person) => {
        const button = el("button", { type: "button", class: "person" }, avatar(person), el("span", {}, name(person.name), role(person)), icon("plus"));
        button.addEventListener("click", () => {
          onChosen(person);
          field.value = "";
          field.focus();
          search();
        });
        return el("li", {}, button);
      }),
    );
    status.textContent = others.length ? "" : say("nobody_found");
  };
  field.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(search, SEARCH_AFTER);
  });
  field.addEventListener("keydown", (event) => {
    if (event.key !== "Enter") return;
    event.preventDefault();
    list.querySelector("button")?.click();
  });
  search();
  return el("div", { class: "search" }, el("label", { for: "people-search" }, say("add_people")), field, status, list);
}

const role = ({ role: of }) => (start.roles[of] ? el("small", {}, start.roles[of]) : null);

/** Make a room; `onCreated(detail)`. */
export function newRoomDialog(salon, onCreated) {
  const chosen = new Map();
  const chips = el("ul", { class: "chips", "aria-label": say("chosen_people") });
  const title = el("input", { id: "new-room-name", maxlength: "200", autocomplete: "off", dir: "auto" });
  const problem = el("p", { class: "notice", role: "alert" });
  const create = el("button", { class: "primary" }, say("create"));
  const kind = el("select", { id: "new-room-type" }, ...["group", "class", "announcement", "parent"].map((each) => el("option", { value: each }, start.roomTypes[each])));
  const show = () => {
    chips.replaceChildren(
      ...[...chosen.values()].map((person) => {
        const remove = el("button", { type: "button", class: "icon-button", "aria-label": say("remove", { name: person.name }) }, icon("close"));
        remove.addEventListener("click", () => {
          chosen.delete(person.id);
          show();
        });
        return el("li", { class: "chip" }, name(person.name), remove);
      }),
    );
    chips.hidden = !chosen.size;
    details.hidden = !start.user.mayModerate || (chosen.size === 1 && !title.value);
  };
  const choose = (person) => {
    if (!start.user.mayModerate) chosen.clear();
    chosen.set(person.id, person);
    show();
    announce(say("added", { name: person.name }));
  };
  const named = el("div", { class: "field" }, el("label", { for: "new-room-name" }, say("room_name")), title, el("small", {}, say("room_name_hint")));
  const details = el("div", { class: "field" }, el("label", { for: "new-room-type" }, say("room_type")), kind);
  named.hidden = !start.user.mayModerate;
  title.addEventListener("input", show);
  const form = el("form", { class: "stack" }, named, details, chips, peopleSearch(salon, (id) => id === start.user.id || chosen.has(id), choose), problem, el("div", { class: "choices" }, create));
  show();
  const node = dialog(say(start.user.mayModerate ? "new_room" : "new_private_room"), form);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const isPrivate = chosen.size === 1 && !title.value.trim();
    if (!isPrivate && !title.value.trim()) {
      problem.textContent = say(start.user.mayModerate ? "name_or_one_person" : "choose_somebody");
      return;
    }
    const body = { participants: [...chosen.keys()], ...(isPrivate ? { is_group: false } : { name: title.value.trim(), is_group: true, room_type: kind.value }) };
    create.disabled = true;
    try {
      const room = await salon.request("/chats/rooms/create/", { method: "POST", body });
      node.close();
      onCreated(room);
    } catch (error) {
      problem.textContent = error.message;
      create.disabled = false;
    }
  });
}

/** Who is in a room, and what can be done with it; `actions`: left(), changed(detail), write(person). */
export async function roomDialog(salon, room, actions) {
  const body = el("div", { class: "stack" }, el("p", { class: "quiet" }, say("loading")));
  const problem = el("p", { class: "notice", role: "alert" });
  const node = dialog(say("about_room"), problem, body);
  const mayChange = start.user.mayModerate && room.type !== "private";
  let detail;

  const attempt = async (deed) => {
    problem.textContent = "";
    try {
      await deed();
    } catch (error) {
      problem.textContent = error.message;
    }
  };
  const change = (changes) =>
    attempt(async () => {
      detail = await salon.request(`/chats/rooms/${room.id}/`, { method: "PATCH", body: changes });
      actions.changed(detail);
      show();
    });
  const ids = () => detail.participants.map(({ id }) => id);

  const member = (person) => {
    const shown = { id: person.id, name: person.full_name, avatar: person.image_url };
    const status = person.id === start.user.id ? "online" : (salon.presence.get(person.id)?.status ?? "offline");
    const remove = mayChange && person.id !== start.user.id && el("button", { type: "button", class: "icon-button", "aria-label": say("remove", { name: shown.name }) }, icon("close"));
    if (remove) {
      remove.addEventListener("click", async () => {
        if (await confirm(say("remove_question", { name: shown.name }), say("remove_short"))) await change({ participants: ids().filter((id) => id !== person.id) });
      });
    }
    const known = el("span", {}, name(shown.name), el("small", {}, say(person.id === start.user.id ? "you" : status)));
    return el("li", { class: "member" }, el("span", { class: `presence ${status}` }, avatar(shown)), known, remove);
  };

  const show = () => {
    const parts = [];
    if (mayChange) {
      const title = el("input", { id: "room-title", value: detail.name, maxlength: "200", required: true, dir: "auto" });
      const form = el("form", { class: "field" }, el("label", { for: "room-title" }, say("room_name")), el("div", { class: "row" }, title, el("button", {}, say("rename"))));
      form.addEventListener("submit", (event) => {
        event.preventDefault();
        change({ name: title.value.trim() });
      });
      parts.push(form);
    } else {
      parts.push(el("p", { class: "title" }, name(detail.name)));
    }
    if (detail.details) parts.push(el("p", { dir: "auto" }, detail.details));
    parts.push(el("h3", {}, say("members", { count: detail.participants.length })));
    parts.push(el("ul", { class: "people members", tabindex: "0", "aria-label": say("members", { count: detail.participants.length }) }, ...detail.participants.map(member)));
    if (mayChange) {
      parts.push(peopleSearch(salon, (id) => ids().includes(id), (person) => change({ participants: [...ids(), person.id] })));
    }
    const choices = [];
    if (room.type !== "private" && (room.type === "group" || start.user.mayModerate)) {
      choices.push(ending("leave", "leave_question", () => salon.request(`/chats/rooms/${room.id}/leave/`, { method: "POST" })));
    }
    if (mayChange) choices.push(ending("delete_room", "delete_room_question", () => salon.request(`/chats/rooms/${room.id}/`, { method: "DELETE" })));
    if (choices.length) parts.push(el("div", { class: "choices" }, ...choices));
    body.replaceChildren(...parts);
  };

  const ending = (words, question, deed) => {
    const button = el("button", { type: "button", class: "danger" }, say(words));
    button.addEventListener("click", async () => {
      if (!(await confirm(say(question, { name: detail.name }), say(words)))) return;
      await attempt(async () => {
        await deed();
        node.close();
        actions.left();
      });
    });
    return button;
  };

  await attempt(async () => {
    detail = await salon.request(`/chats/rooms/${room.id}/`);
    show();
  });
}
