"use client";

import { useEffect, useRef, useState } from "react";
import { addresses, type MessageData, type Outgoing, type Room, SalonClient, type State } from "salon-client";

export interface Conversation {
  state: State;
  /** The newest messages, in the room's order. */
  messages: MessageData[];
  /** What was sent here and is not stored yet. */
  outgoing: Outgoing[];
  /** Who types now. */
  typing: string[];
  /** Why it is over, if it is: show a way to sign in. */
  end: string | null;
  send(content: string): void;
  startTyping(): void;
  retry(entry: Outgoing): void;
}

const KEPT = 200; // messages; what is older comes from the HTTP API

/**
 * One room over one connection. `token` is asked for a token now and whenever one has expired: in production, your own
 * backend's login answers it, with the session that this page's visitor has there.
 */
export function useSalon(roomId: number | null, token: () => Promise<string | null>): Conversation {
  const client = useRef<SalonClient | null>(null);
  const room = useRef<Room | null>(null);
  const ask = useRef(token);
  ask.current = token;
  const [state, setState] = useState<State>("idle");
  const [messages, setMessages] = useState<MessageData[]>([]);
  const [outgoing, setOutgoing] = useState<Outgoing[]>([]);
  const [typing, setTyping] = useState<string[]>([]);
  const [end, setEnd] = useState<string | null>(null);

  useEffect(() => {
    if (roomId === null) return;
    const { url, api } = addresses({
      // Written out: a bundler replaces these names, and no others.
      host: process.env.NEXT_PUBLIC_WS_HOST!,
      protocol: process.env.NEXT_PUBLIC_WS_PROTOCOL,
      api: process.env.NEXT_PUBLIC_API_BASE_URL,
    });
    const salon = new SalonClient({ url, api, token: () => ask.current() });
    salon.on("state", (event) => setState(event.state));
    salon.on("end", (event) => setEnd(event.error));
    salon.on("message", ({ message }) => setMessages((known) => [...known, message].slice(-KEPT)));
    salon.on("changed", ({ message }) =>
      setMessages((known) => known.map((each) => (each.uuid === message.uuid ? message : each))),
    );
    // The client's own objects change; React wants other ones.
    salon.on("outgoing", () => setOutgoing(salon.outbox.map((entry) => ({ ...entry }))));
    salon.on("typing", ({ names }) => setTyping(names));
    client.current = salon;
    room.current = salon.join(roomId, { history: 50 });
    salon.connect();
    return () => {
      salon.close();
      setMessages([]);
      setOutgoing([]);
      setTyping([]);
      setEnd(null);
    };
  }, [roomId]);

  return {
    state,
    messages,
    outgoing,
    typing,
    end,
    send: (content) => room.current?.send(content),
    startTyping: () => room.current?.startTyping(),
    retry(entry) {
      const original = client.current?.outbox.find(({ client_id }) => client_id === entry.client_id);
      if (original) client.current?.resend(original);
    },
  };
}
