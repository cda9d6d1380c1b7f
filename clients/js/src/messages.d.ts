// Written by `make generate` from PROTOCOL.md and shared/src/beaconfire_kit/resync.py. Do not edit.

export type ClientMessage = Connect | Subscribe | Unsubscribe | Refresh | Ping | SetPresence | SetTyping | Select;

/** Chosen by the client: 1 to 64 characters, or an integer. The answer repeats it. */
export type MessageId = string | number;

/** `campaign:c1`, `campaign:c1/settlement:s1` or `settlement:s1`; at most 300 characters. */
export type RoomName = string;

/** `"<epoch>:<offset>"`, at most 64 characters. */
export type Cursor = string;

/** 1 to 100 types of the catalogue. */
export type EventTypes = string[];

export interface Connect {
  type: "connect";
  id: MessageId;
  /** The access token. Left out if it came with the upgrade. */
  token?: string;
  /** At most 100. */
  rooms?: RoomName[];
  /** The event types wanted in some of `rooms`. Every key is one of `rooms`. A room without a key gets every type. */
  types?: Record<RoomName, EventTypes>;
  /** The client's cursor. Without it, the session starts at the newest event. */
  cursor?: Cursor | null;
  /** The name and the version of the client's software, for the gateway's log. Each has at most 64 characters. */
  client?: { name?: string; version?: string } | null;
  /** The close code with which the client's last connection ended, 0 to 65535. Left out if no connection was lost. */
  lastClose?: number | null;
  /** How long ago that connection was lost, in whole milliseconds. */
  awayMs?: number | null;
  /** The `sessionId` of the session that this one takes over from. */
  replaces?: string | null;
  /** Whether the gateway tells this client who is in the rooms of this message. */
  presence?: boolean;
  /** The user's status, as in the message `presence`. Default: online. */
  status?: PresenceStatus | null;
}

export interface Subscribe {
  type: "subscribe";
  id: MessageId;
  /** At most 100. */
  rooms: RoomName[];
  /** The event types wanted in all rooms of this message. Without it, every type. */
  types?: EventTypes | null;
  /** The cursor of a snapshot. Events of these rooms since then come before the reply. */
  cursor?: Cursor | null;
  /** Whether the gateway tells this client who is in these rooms. */
  presence?: boolean;
}

export interface Unsubscribe {
  type: "unsubscribe";
  id: MessageId;
  /** At most 100. */
  rooms: RoomName[];
}

export interface Refresh {
  type: "refresh";
  id: MessageId;
  token: string;
}

export interface Ping {
  type: "ping";
  id: MessageId;
  /** Whether the reply says how much the client may still send in this minute. */
  remaining?: boolean;
}

export interface SetPresence {
  type: "presence";
  id: MessageId;
  status: PresenceStatus;
}

export type PresenceStatus = "online" | "away" | "busy";

export interface SetTyping {
  type: "typing";
  id: MessageId;
  /** A room that the session is in. */
  room: RoomName;
  /** False when the user has stopped. Default: true. */
  typing?: boolean;
}

export interface Select {
  type: "select";
  id: MessageId;
  /** A room that the session is in. */
  room: RoomName;
  /** What is selected: at most 20 texts that your application chooses, each of at most 128 characters. Empty: nothing. */
  items: string[];
}

export type GatewayMessage =
  | ConnectionAck | Reply | ErrorMessage
  | EventMessage | Restored | Position
  | Resync | RoomLeft | RoleChanged | TokenExpiring
  | Degraded | Live | Goaway
  | Presence | PresenceChange
  | Typing
  | Selection;

/** A refusal. `code` is in the table of §6, `message` is for people. */
export interface Refusal {
  code: string;
  message: string;
  /** When to try again, at the earliest. */
  retryAfterMs?: number;
}

/** The answer for one room, under the name that the client used. */
export interface RoomAnswer {
  success: boolean;
  /** The long form of the room, if the client used a short name. */
  room?: RoomName;
  /** Only in the reply to a `subscribe` with a cursor: see `reply`. */
  recovered?: boolean;
  /** Why the room was refused. */
  error?: Refusal;
  /** Who is in the room, if the request asked for that and the room has presence. */
  presence?: RoomPresence;
  /** What the user has selected in the room, in this session or another one. Left out if that is nothing. */
  selection?: string[];
}

export interface RoomPresence {
  /** How many users are in the room. */
  count: number;
  /** All of them, or 100 of them if there are more. */
  users: PresentUser[];
}

export interface PresentUser {
  userId: string;
  status: PresenceStatus;
  /** The sessions of the user in the room. */
  devices: number;
}

export interface ConnectionAck {
  type: "connection.ack";
  id: MessageId;
  sessionId: string;
  /** The gateway's name, to show to people. Left out if the gateway has none. */
  gateway?: string;
  userId: string;
  /** The session's cursor. Events after it follow. */
  cursor: Cursor;
  /** Seconds between the gateway's pings, and between `position` messages if no event comes. */
  heartbeatS: number;
  limits: Limits;
  /** Whether the gateway cannot reach the broker at the moment. */
  degraded: boolean;
  rooms: Record<RoomName, RoomAnswer>;
}

export interface Limits {
  /** Bytes in a message from the client. */
  maxFrameBytes: number;
  /** Rooms that a connection may be in. */
  maxRooms: number;
  maxRoomsPerUser: number;
  maxSessionsPerUser: number;
  maxSessionsPerAddress: number;
  messagesPerMinute: number;
  messagesPerMinutePerUser: number;
  roomsPerMinute: number;
  roomsPerMinutePerUser: number;
  typingPerMinutePerUser: number;
  statusesPerMinutePerUser: number;
  selectionsPerMinutePerUser: number;
}

export type Reply = Success | Failure;

export interface Success {
  type: "reply";
  id: MessageId;
  success: true;
  /** In the answer to `subscribe` and `unsubscribe`. */
  rooms?: Record<RoomName, RoomAnswer>;
  /** In the answer to `subscribe`. Live events of its rooms after this cursor follow. */
  cursor?: Cursor;
  /** In the answer to a `ping` with `remaining`: how much the client may send right now, for each limit per minute. */
  remaining?: Record<string, number>;
}

export interface Failure {
  type: "reply";
  id: MessageId;
  success: false;
  error: Refusal;
}

export interface ErrorMessage {
  type: "error";
  /** The id of the message, if it could be read. */
  id?: MessageId;
  code: string;
  message: string;
  retryAfterMs?: number;
}

export interface EventMessage {
  type: "event";
  /** The event's number in the stream. Ephemeral events have none, and neither have conflated events that were held back. */
  offset?: number;
  /** Only in a conflated event that was held back: the cursor that this session has reached. */
  cursor?: Cursor;
  /** All rooms of the event, in the long form. */
  rooms: RoomName[];
  /** The publisher's JSON, unchanged (§8). */
  event: Published;
}

export interface Published {
  id: string;
  type: string;
  version: number;
  payload: Record<string, unknown>;
  metadata: {
    timestamp: string;
    userId?: string | null;
    source: string;
    correlationId?: string | null;
    audience?: string[] | null;
    /** The trace in which the event was created, if it is traced (W3C Trace Context). */
    traceparent?: string | null;
    tracestate?: string | null;
    [other: string]: unknown;
  };
  [other: string]: unknown;
}

export interface Restored {
  type: "restored";
  /** The id of the `subscribe`. */
  id: MessageId;
  /** The rooms of the `subscribe` that the client may join. */
  rooms: RoomName[];
  events: EventMessage[];
}

export interface Position {
  type: "position";
  cursor: Cursor;
}

export interface Resync {
  type: "resync";
  /** The names that the client used for the rooms, or those in the ack if it did not name them. */
  rooms: RoomName[];
  reason: ResyncReason;
  /** Events after this cursor follow. This cursor may be below the client's, or have another epoch. */
  cursor: Cursor;
}

export interface RoomLeft {
  type: "room.left";
  /** The name that the client used for the room, or the one in the ack if it did not name the room. */
  room: RoomName;
  reason: LeaveReason;
}

/** `access_revoked` is reserved: today such a connection is closed with 4401 instead. */
export type LeaveReason = "membership_removed" | "access_revoked" | "lease_expired";

export interface RoleChanged {
  type: "role.changed";
  /** `campaign:c1`. */
  root: string;
  role: "owner" | "editor" | "viewer";
}

export interface TokenExpiring {
  type: "token.expiring";
  /** Seconds until the token expires. */
  inS: number;
}

export interface Degraded {
  type: "degraded";
  reason: "broker_unreachable";
}

export interface Live {
  type: "live";
}

export interface Goaway {
  type: "goaway";
  /** Wait this long, then open the next connection. */
  afterMs: number;
  /** When this time is over, the gateway closes the connection with 4503. */
  withinMs: number;
}

export interface Presence extends RoomPresence {
  type: "presence";
  /** The long form of the room. */
  room: RoomName;
}

export interface PresenceChange {
  type: "presence";
  /** The long form of the room. */
  room: RoomName;
  /** How many users are in the room now. */
  count: number;
  /** Users that the client must add to its list. */
  joined: PresentUser[];
  /** Users on the list whose status or number of devices has changed. */
  changed: PresentUser[];
  /** The ids of users that the client must remove from its list. */
  left: string[];
}

export interface Typing {
  type: "typing";
  /** The long form of the room. */
  room: RoomName;
  userId: string;
  /** False when the user has stopped, or the user's client has sent no `typing` for 5 s. */
  typing: boolean;
}

export interface Selection {
  type: "selection";
  /** The long form of the room. */
  room: RoomName;
  /** What is selected. Empty: nothing. */
  items: string[];
}

/** Why the state of rooms must be loaded again. */
export type ResyncReason =
  /** The cursor belongs to another epoch of the stream, or cannot be read. The stream was created again, restored from a backup, or given a new epoch. */
  | "epoch_changed"
  /** The stream ends before the cursor. */
  | "ahead"
  /** The stream no longer has every event after the cursor. While the client or its gateway was away, some became too old, the stream was full, or an operator erased them. */
  | "not_resumable"
  /** After a minute the session was no closer to the newest event. */
  | "too_slow";
