// The messages of one room, as far as they are shown: a window onto the history that is never larger than `LARGEST`.
// What is older comes as somebody scrolls up, what is newer as she scrolls down, and what she looks at stays in place.

import { messageItem, outgoingItem } from "./bubble.js";

const LARGEST = 160; // messages
const PAGE = 20; // messages; few enough that what they cost fits into a frame or two
const NEAR = 1800; // pixels from an end at which the next page is asked for
const AT_END = 48; // pixels

export class Timeline {
  messages = [];
  outgoing = [];
  /** Whether the newest message is in the window. */
  hasNewest = true;
  /** The newest message that was read when the room was opened: the line is drawn behind it. */
  readUpTo = null;
  seenUpTo = 0;
  isGroup = true;

  #scroller;
  #list;
  #load;
  #actions;
  #isLoading = false;
  #items = new Map();
  #outgoingItems = [];
  #generation = 0;
  #isStuck = true;
  #height = 0;

  /** `load({before}|{after}, limit)` gets messages; `actions` has what can be done with one. */
  constructor(scroller, list, load, actions) {
    this.#scroller = scroller;
    this.#list = list;
    this.#load = load;
    this.#actions = actions;
    scroller.addEventListener("scroll", () => this.#scrolled(), { passive: true });
    const observer = new ResizeObserver(() => {
      this.#height = scroller.clientHeight;
      if (this.#isStuck) this.#toEnd();
      else this.#scrolled();
    });
    observer.observe(scroller);
    observer.observe(list);
    list.addEventListener("keydown", (event) => this.#keyed(event));
  }

  get first() {
    return this.messages[0]?.seq ?? null;
  }

  get last() {
    return this.messages.at(-1)?.seq ?? 0;
  }

  get isAtEnd() {
    return this.hasNewest && this.#isStuck;
  }

  /** Show another room, or another part of this one. */
  reset(messages, { hasNewest = true, readUpTo = this.readUpTo, at = null } = {}) {
    this.#generation++;
    this.#isLoading = false;
    this.messages = messages;
    this.hasNewest = hasNewest;
    this.readUpTo = readUpTo;
    this.#items.clear();
    this.#outgoingItems = [];
    this.#list.replaceChildren();
    this.#add(messages, null);
    this.setOutgoing(this.outgoing);
    const target = this.#items.get(at) ?? this.#list.querySelector(".separator.new")?.closest("li");
    this.#isStuck = !target;
    if (target) target.scrollIntoView({ block: at ? "center" : "start" });
    else this.#toEnd();
    this.#settleFocus();
    this.#scrolled();
  }

  /** A message that has just come. Returns whether it is shown. */
  append(message) {
    if (!this.hasNewest || message.seq <= this.last) return false;
    if (this.messages.length && message.seq !== this.last + 1) {
      // Others are in between; they come as she scrolls down.
      this.hasNewest = false;
      this.#scrolled();
      return false;
    }
    this.messages.push(message);
    const item = this.#make(this.messages.length - 1);
    this.#list.insertBefore(item, this.#outgoingItems[0] ?? null);
    if (this.#isStuck) {
      this.#trimStart();
      this.#toEnd();
    }
    this.#settleFocus();
    this.#changed();
    return true;
  }

  replace(message) {
    const index = this.messages.findIndex(({ seq }) => seq === message.seq);
    if (index < 0) return;
    this.messages[index] = message;
    this.#keepPlace(() => this.#remake(index));
  }

  setSeen(seq) {
    if (seq <= this.seenUpTo) return;
    const before = this.seenUpTo;
    this.seenUpTo = seq;
    this.messages.forEach((message, index) => {
      if (message.seq > before && message.seq <= seq && message.sender === this.#actions.userId) this.#remake(index);
    });
  }

  /** What is not stored yet, behind everything else. */
  setOutgoing(entries) {
    this.outgoing = entries;
    const had = this.#outgoingItems.length;
    for (const item of this.#outgoingItems) item.remove();
    this.#outgoingItems = entries.map((entry, index) => {
      const before = index ? { ...entries[index - 1], sender: this.#actions.userId } : this.messages.at(-1);
      return outgoingItem(entry, {
        before,
        onRetry: () => this.#actions.retry(entry),
        onDiscard: () => this.#actions.discard(entry),
      });
    });
    this.#list.append(...this.#outgoingItems);
    if (this.#isStuck || entries.length > had) this.#toEnd();
    this.#changed();
  }

  setProgress(entry) {
    const item = this.#outgoingItems.find((each) => each.dataset.clientId === entry.client_id);
    const progress = item?.querySelector("progress");
    if (progress) progress.value = Math.round(entry.progress * 100);
  }

  /** Show the newest. */
  async jumpToEnd() {
    if (!this.hasNewest) {
      const generation = this.#generation;
      const found = await this.#load({}, PAGE);
      if (generation !== this.#generation) return;
      this.reset(found, { hasNewest: true, readUpTo: null });
    }
    this.#toEnd();
  }

  /** Show the message with this number, and have it stand out for a moment. */
  async jumpTo(seq) {
    if (!this.#items.has(seq)) {
      const generation = this.#generation;
      const found = await this.#load({ before: seq + PAGE / 2 }, PAGE);
      if (generation !== this.#generation || !found.length) return;
      this.reset(found, { hasNewest: false, readUpTo: null, at: seq });
    }
    const item = this.#items.get(seq);
    if (!item) return;
    this.#isStuck = false;
    item.scrollIntoView({ block: "center" });
    this.#focus(item);
    item.classList.add("pointed");
    setTimeout(() => item.classList.remove("pointed"), 2000);
  }

  messageOf(item) {
    return this.messages.find(({ seq }) => String(seq) === item.dataset.seq);
  }

  /** The newest message of hers that can be edited. */
  newestOwn() {
    return this.messages.findLast(({ sender, is_deleted }) => sender === this.#actions.userId && !is_deleted);
  }

  // The window

  #make(index) {
    const message = this.messages[index];
    const before = this.messages[index - 1];
    const isUnread = (each) => each && this.readUpTo !== null && each.seq > this.readUpTo;
    const item = messageItem(message, {
      before,
      isFirstUnread: isUnread(message) && message.sender !== this.#actions.userId && !isUnread(before) && (before || message.seq === this.readUpTo + 1),
      seenUpTo: this.seenUpTo,
      isGroup: this.isGroup,
      onMenu: (event) => this.#actions.menu(message, event.currentTarget),
      onQuote: (seq) => this.jumpTo(seq),
    });
    this.#items.set(message.seq, item);
    return item;
  }

  #remake(index) {
    const old = this.#items.get(this.messages[index].seq);
    const hadFocus = old.contains(document.activeElement);
    const item = this.#make(index);
    item.tabIndex = old.tabIndex;
    old.replaceWith(item);
    if (hadFocus) item.focus({ preventScroll: true });
  }

  #add(messages, before) {
    const from = this.messages.indexOf(messages[0]);
    const fragment = document.createDocumentFragment();
    messages.forEach((_, offset) => fragment.append(this.#make(from + offset)));
    this.#list.insertBefore(fragment, before);
  }

  #trimStart() {
    const count = this.messages.length - LARGEST;
    if (count > 0) this.#remove(this.messages.splice(0, count));
  }

  #trimEnd() {
    if (this.messages.length > LARGEST) {
      this.#remove(this.messages.splice(LARGEST));
      this.hasNewest = false;
    }
  }

  #remove(messages) {
    for (const { seq } of messages) {
      this.#items.get(seq).remove();
      this.#items.delete(seq);
    }
  }

  async #scrolled() {
    const { scrollTop, scrollHeight, clientHeight } = this.#scroller;
    const below = scrollHeight - clientHeight - scrollTop;
    // That there is less room than before is not her scrolling: the observer sees to it.
    if (clientHeight === this.#height) this.#isStuck = below < AT_END;
    this.#changed();
    if (this.#isLoading || !this.messages.length) return;
    if (scrollTop < NEAR && this.first > 1) await this.#page({ before: this.first });
    else if (below < NEAR && !this.hasNewest) await this.#page({ after: this.last });
  }

  async #page(where) {
    const generation = this.#generation;
    this.#isLoading = true;
    let found = [];
    try {
      found = await this.#load(where, PAGE);
    } catch {
      // Without a connection there is nothing to show; when it is back, the next scroll asks again.
    }
    if (generation !== this.#generation) return;
    this.#isLoading = false;
    if (!found.length) {
      if ("after" in where) this.hasNewest = true;
      return;
    }
    this.#keepPlace(() => {
      if ("before" in where) {
        this.messages = [...found, ...this.messages];
        this.#add(found, this.#list.firstElementChild);
        // Its day or its name may stand above it no longer.
        if (this.messages.length > found.length) this.#remake(found.length);
        this.#trimEnd();
      } else {
        this.messages = [...this.messages, ...found];
        this.#add(found, this.#outgoingItems[0] ?? null);
        if (found.length < PAGE) this.hasNewest = true;
        this.#trimStart();
      }
    });
    this.#settleFocus();
    this.#scrolled();
  }

  /** Change what is above or below, and let what she looks at stay where it is. */
  #keepPlace(change) {
    if (this.#isStuck && this.hasNewest && this.#scroller.scrollTop > 0) {
      change();
      this.#toEnd();
      return;
    }
    const anchor = this.#firstVisible();
    const seq = Number(anchor?.dataset.seq);
    const top = anchor?.getBoundingClientRect().bottom;
    change();
    const now = this.#items.get(seq);
    if (now) this.#scroller.scrollTop += now.getBoundingClientRect().bottom - top;
  }

  #firstVisible() {
    const top = this.#scroller.getBoundingClientRect().top;
    let low = 0;
    let high = this.messages.length - 1;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.#items.get(this.messages[middle].seq).getBoundingClientRect().bottom > top) high = middle;
      else low = middle + 1;
    }
    return this.messages.length ? this.#items.get(this.messages[low].seq) : null;
  }

  #toEnd() {
    this.#scroller.scrollTop = this.#scroller.scrollHeight;
    this.#isStuck = true;
  }

  #changed() {
    this.#actions.changed?.();
  }

  // The keyboard: the list is one stop, and the arrows go from message to message

  #settleFocus() {
    if (!this.#list.querySelector('li[tabindex="0"]') && this.#list.lastElementChild) this.#list.lastElementChild.tabIndex = 0;
  }

  #focus(item) {
    for (const each of this.#list.querySelectorAll('li[tabindex="0"]')) each.tabIndex = -1;
    item.tabIndex = 0;
    item.focus({ preventScroll: true });
  }

  #keyed(event) {
    const item = event.target.closest("li");
    if (!item || event.altKey || event.ctrlKey || event.metaKey) return;
    const steps = { ArrowUp: item.previousElementSibling, ArrowDown: item.nextElementSibling, End: this.#list.lastElementChild, Home: this.#list.firstElementChild };
    if (event.key in steps) {
      event.preventDefault();
      if (!steps[event.key]) return;
      this.#focus(steps[event.key]);
      steps[event.key].scrollIntoView({ block: "nearest" });
    } else if (event.target === item && (event.key === "Enter" || event.key === " ")) {
      event.preventDefault();
      item.querySelector(".more")?.click();
    }
  }
}
