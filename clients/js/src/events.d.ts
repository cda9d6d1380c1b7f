// Written by `make generate` from shared/src/beaconfire_kit/events. Do not edit.

/** One event as in an `event` frame, as the publisher sent it. It always has an id. */
export interface EventMessage<Type extends string, Version extends number, Payload> {
  readonly id: string;
  readonly type: Type;
  readonly version: Version;
  readonly payload: Payload;
  readonly metadata: EventMetadata;
}

/** The user and service that caused the event, and when. */
export interface EventMetadata {
  readonly timestamp: string;
  readonly userId?: string | null;
  readonly source: string;
  readonly correlationId?: string | null;
  readonly audience?: readonly ("owner" | "editor" | "viewer")[] | null;
  readonly traceparent?: string | null;
  readonly tracestate?: string | null;
}

/** An entity other than a settlement or structure, or the campaign itself, was created, changed or deleted. */
export interface EntityUpdated {
  readonly entityType: string;
  readonly entityId: string;
  readonly campaignId: string;
  readonly operation?: "create" | "update" | "delete";
  readonly changedFields: readonly string[];
}

/** Computed values of the whole campaign or of one entity are out of date. The rules engine publishes this. */
export interface StateInvalidated {
  readonly scope: "campaign" | "entity";
  readonly campaignId: string;
  readonly entityType?: string | null;
  readonly entityId?: string | null;
  readonly affectedFields: readonly string[];
}

/** The campaign's clock was advanced. */
export interface WorldTimeChanged {
  readonly campaignId: string;
  readonly previousTime: string;
  readonly newTime: string;
  readonly elapsedSeconds: number;
}

/** A settlement was created, changed or deleted. */
export interface SettlementUpdated {
  readonly campaignId: string;
  readonly settlementId: string;
  readonly operation: "create" | "update" | "delete";
  readonly changedFields: readonly string[];
}

/** A structure of a settlement was created, changed or deleted. */
export interface StructureUpdated {
  readonly campaignId: string;
  readonly settlementId: string;
  readonly structureId: string;
  readonly operation: "create" | "update" | "delete";
  readonly changedFields: readonly string[];
}

/** An issue was opened. */
export interface IssueCreated {
  readonly workspaceId?: string | number | null;
  readonly teamId?: string | number | null;
  readonly id?: string | number | null;
  readonly identifier?: string | null;
  readonly title?: string | null;
  readonly status?: string | null;
  readonly priority?: string | number | number | null;
}

/** An issue's fields changed. `changes` has each changed field with its new value. */
export interface IssueUpdated {
  readonly workspaceId?: string | number | null;
  readonly teamId?: string | number | null;
  readonly id?: string | number | null;
  readonly changes?: { readonly [key: string]: unknown; } | null;
}

/** An issue was deleted. */
export interface IssueDeleted {
  readonly workspaceId?: string | number | null;
  readonly teamId?: string | number | null;
  readonly id?: string | number | null;
}

/** An issue was archived. It can still be read. */
export interface IssueArchived {
  readonly workspaceId?: string | number | null;
  readonly teamId?: string | number | null;
  readonly id?: string | number | null;
}

/** Something was done to an issue, for its activity feed. The payload is the whole entry. */
export interface IssueActivityCreated {
  readonly workspaceId?: string | number | null;
  readonly teamId?: string | number | null;
  readonly issueId?: string | number | null;
  readonly id?: string | number | null;
}

/** A comment was added to an issue. The payload is the whole comment. */
export interface CommentCreated {
  readonly workspaceId?: string | number | null;
  readonly teamId?: string | number | null;
  readonly issueId?: string | number | null;
  readonly id?: string | number | null;
  readonly authorId?: string | number | null;
  readonly body?: string | null;
}

/** A comment was edited. */
export interface CommentUpdated {
  readonly workspaceId?: string | number | null;
  readonly teamId?: string | number | null;
  readonly issueId?: string | number | null;
  readonly id?: string | number | null;
  readonly changes?: { readonly [key: string]: unknown; } | null;
}

/** A comment was deleted. */
export interface CommentDeleted {
  readonly workspaceId?: string | number | null;
  readonly teamId?: string | number | null;
  readonly issueId?: string | number | null;
  readonly id?: string | number | null;
}

/** A project was created, or its fields changed. */
export interface ProjectUpdated {
  readonly workspaceId?: string | number | null;
  readonly id?: string | number | null;
  readonly changes?: { readonly [key: string]: unknown; } | null;
}

/** A cycle was created, or its fields changed. */
export interface CycleUpdated {
  readonly workspaceId?: string | number | null;
  readonly id?: string | number | null;
  readonly changes?: { readonly [key: string]: unknown; } | null;
}

/** An approval was requested. The payload is the whole approval. */
export interface ApprovalCreated {
  readonly workspaceId?: string | number | null;
  readonly id?: string | number | null;
  readonly title?: string | null;
  readonly status?: string | null;
}

/** An approval was decided, or its content changed. The payload is the changed part of the approval, and its id. */
export interface ApprovalUpdated {
  readonly workspaceId?: string | number | null;
  readonly id?: string | number | null;
  readonly title?: string | null;
  readonly status?: string | null;
}

/** An approval was deleted. */
export interface ApprovalDeleted {
  readonly workspaceId?: string | number | null;
  readonly id?: string | number | null;
}

/** An agent started, stopped, waits, or failed. */
export interface AgentStatusChanged {
  readonly workspaceId?: string | number | null;
  readonly agentId?: string | number | null;
  readonly status: string;
  readonly previousStatus?: string | null;
}

/** A model started to work on a request. The payload is the whole run. */
export interface AiRunStarted {
  readonly workspaceId?: string | number | null;
  readonly runId?: string | number | null;
  readonly agentId?: string | number | null;
}

/** A run made progress: it has another step, tool call, or part of its answer. */
export interface AiRunProgress {
  readonly workspaceId?: string | number | null;
  readonly runId?: string | number | null;
  readonly agentId?: string | number | null;
}

/** A run ended with a result. */
export interface AiRunCompleted {
  readonly workspaceId?: string | number | null;
  readonly runId?: string | number | null;
  readonly agentId?: string | number | null;
}

/** A run ended without a result. */
export interface AiRunFailed {
  readonly workspaceId?: string | number | null;
  readonly runId?: string | number | null;
  readonly agentId?: string | number | null;
  readonly error?: unknown;
}

/** A message was written in a chat. The payload is the whole message. */
export interface ChatMessage {
  readonly workspaceId?: string | number | null;
  readonly chatId?: string | number | null;
  readonly id?: string | number | null;
  readonly senderId?: string | number | null;
  readonly text?: string | null;
}

/** Something was done in the workspace, for its activity feed. The payload is the whole entry. */
export interface ActivityCreated {
  readonly workspaceId?: string | number | null;
  readonly id?: string | number | null;
}

/** A user started or stopped typing, for example in a chat or an issue: `targetKind` and `targetId` name it. */
export interface UserTyping {
  readonly workspaceId?: string | number | null;
  readonly targetKind?: string | null;
  readonly targetId?: string | number | null;
  readonly userId: string;
  readonly typing?: boolean;
}

/** A notification for one user. It reaches all connections of that user. The payload is the whole notification. */
export interface NotificationNew {
  readonly userId?: string | null;
  readonly id?: string | number | null;
  readonly title?: string | null;
  readonly body?: string | null;
}

/** A user has read a notification. It reaches all connections of that user, so that a badge counts the same. */
export interface NotificationRead {
  readonly userId?: string | null;
  readonly id?: string | number | null;
  readonly readAt?: string | null;
}

/** A user became a member of a root, got another role, or (if `role` is null) is no longer a member. */
export interface MemberChanged {
  readonly rootKind: string;
  readonly rootId: string;
  readonly userId: string;
  readonly role: "owner" | "editor" | "viewer" | null;
  readonly membershipVersion: number;
}

/**
 * All access tokens of the user that were issued before `issuedBefore` were revoked.
 *
 * With `root` (`depot:d1`), only the user's access to this root was revoked, as far as it does not come from a
 * membership. Sockets stay open, and gateways ask auth which of the root's rooms the user may still hear.
 *
 * With the reason `disconnected` no token was revoked. Gateways close the sockets that the user has open.
 */
export interface AccessRevoked {
  readonly userId: string;
  readonly issuedBefore: string;
  readonly reason: "signed_out_everywhere" | "refresh_token_reused" | "account_closed" | "revoked" | "disconnected";
  readonly membershipVersion: number;
  readonly root?: string | null;
}

/** Every event of the catalogue, by its type. */
export interface Events {
  readonly entity_updated: EventMessage<"entity_updated", 1, EntityUpdated>;
  readonly state_invalidated: EventMessage<"state_invalidated", 1, StateInvalidated>;
  readonly world_time_changed: EventMessage<"world_time_changed", 1, WorldTimeChanged>;
  readonly settlement_updated: EventMessage<"settlement_updated", 1, SettlementUpdated>;
  readonly structure_updated: EventMessage<"structure_updated", 1, StructureUpdated>;
  readonly "issue.created": EventMessage<"issue.created", 1, IssueCreated>;
  readonly "issue.updated": EventMessage<"issue.updated", 1, IssueUpdated>;
  readonly "issue.deleted": EventMessage<"issue.deleted", 1, IssueDeleted>;
  readonly "issue.archived": EventMessage<"issue.archived", 1, IssueArchived>;
  readonly "issue.activity.created": EventMessage<"issue.activity.created", 1, IssueActivityCreated>;
  readonly "comment.created": EventMessage<"comment.created", 1, CommentCreated>;
  readonly "comment.updated": EventMessage<"comment.updated", 1, CommentUpdated>;
  readonly "comment.deleted": EventMessage<"comment.deleted", 1, CommentDeleted>;
  readonly "project.updated": EventMessage<"project.updated", 1, ProjectUpdated>;
  readonly "cycle.updated": EventMessage<"cycle.updated", 1, CycleUpdated>;
  readonly "approval.created": EventMessage<"approval.created", 1, ApprovalCreated>;
  readonly "approval.updated": EventMessage<"approval.updated", 1, ApprovalUpdated>;
  readonly "approval.deleted": EventMessage<"approval.deleted", 1, ApprovalDeleted>;
  readonly "agent.status.changed": EventMessage<"agent.status.changed", 1, AgentStatusChanged>;
  readonly "ai.run.started": EventMessage<"ai.run.started", 1, AiRunStarted>;
  readonly "ai.run.progress": EventMessage<"ai.run.progress", 1, AiRunProgress>;
  readonly "ai.run.completed": EventMessage<"ai.run.completed", 1, AiRunCompleted>;
  readonly "ai.run.failed": EventMessage<"ai.run.failed", 1, AiRunFailed>;
  readonly "chat.message": EventMessage<"chat.message", 1, ChatMessage>;
  readonly "activity.created": EventMessage<"activity.created", 1, ActivityCreated>;
  readonly "user.typing": EventMessage<"user.typing", 1, UserTyping>;
  readonly "notification.new": EventMessage<"notification.new", 1, NotificationNew>;
  readonly "notification.read": EventMessage<"notification.read", 1, NotificationRead>;
  readonly member_changed: EventMessage<"member_changed", 1, MemberChanged>;
  readonly access_revoked: EventMessage<"access_revoked", 1, AccessRevoked>;
}

export type EventType = keyof Events;
export type AnyEvent = Events[EventType];
