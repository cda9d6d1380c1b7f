/**
 * Tell everybody in a workspace, a team, an issue, a chat what has changed: one function for each event.
 *
 *   await broadcastIssueUpdated(publisher, { workspaceId, teamId, issueId, changes: { status: "done" }, userId });
 *
 * Each takes a publisher, the ids of the event's subject, and the item or what changed of it, as the workspace or the
 * tracker has it. Further options are those of any event: `id`, `userId`, `correlationId`, `audience`.
 */

/** @typedef {import("./publisher.js").Publisher} Publisher */

const ID = /^[A-Za-z0-9_-]{1,64}$/;

/** The subject with these pairs of a kind and an id. */
function subjectOf(...pairs) {
  for (const [kind, id] of pairs) {
    if (!(typeof id === "string" ? ID.test(id) : Number.isSafeInteger(id))) {
      throw new TypeError(`${id} is not an id of a ${kind}: it has 1 to 64 letters, digits, _ and -`);
    }
  }
  return pairs.flat().join(".");
}

const inWorkspace = (workspaceId, ...pairs) => subjectOf(["workspace", workspaceId], ...pairs);
const ofIssue = (workspaceId, teamId, issueId, ...pairs) =>
  inWorkspace(workspaceId, ["team", teamId], ["issue", issueId], ...pairs);

// --- approvals, agents, chats

/** @param {Publisher} publisher */
export function broadcastApprovalCreated(publisher, { workspaceId, approval, ...about }) {
  const subject = inWorkspace(workspaceId, ["approval", approval.id]);
  return publisher.publish({ ...about, type: "approval.created", subject, payload: approval });
}

/** `approval` is the changed part, with its `id`. @param {Publisher} publisher */
export function broadcastApprovalUpdated(publisher, { workspaceId, approval, ...about }) {
  const subject = inWorkspace(workspaceId, ["approval", approval.id]);
  return publisher.publish({ ...about, type: "approval.updated", subject, payload: approval });
}

/** @param {Publisher} publisher */
export function broadcastApprovalDeleted(publisher, { workspaceId, approvalId, ...about }) {
  const subject = inWorkspace(workspaceId, ["approval", approvalId]);
  return publisher.publish({ ...about, type: "approval.deleted", subject, payload: { id: approvalId } });
}

/** @param {Publisher} publisher */
export function broadcastAgentStatusChanged(publisher, { workspaceId, agentId, status, ...about }) {
  const subject = inWorkspace(workspaceId, ["agent", agentId]);
  return publisher.publish({ ...about, type: "agent.status.changed", subject, payload: { agentId, status } });
}

/** @param {Publisher} publisher */
export function broadcastChatMessage(publisher, { workspaceId, chatId, message, ...about }) {
  const subject = inWorkspace(workspaceId, ["chat", chatId]);
  return publisher.publish({ ...about, type: "chat.message", subject, payload: { ...message, chatId } });
}

/** @param {Publisher} publisher */
export function broadcastAiRunStarted(publisher, { workspaceId, runId, run = {}, ...about }) {
  const subject = inWorkspace(workspaceId, ["run", runId]);
  return publisher.publish({ ...about, type: "ai.run.started", subject, payload: { ...run, runId } });
}

/** @param {Publisher} publisher */
export function broadcastAiRunProgress(publisher, { workspaceId, runId, progress, ...about }) {
  const subject = inWorkspace(workspaceId, ["run", runId]);
  return publisher.publish({ ...about, type: "ai.run.progress", subject, payload: { ...progress, runId } });
}

/** @param {Publisher} publisher */
export function broadcastAiRunCompleted(publisher, { workspaceId, runId, result, ...about }) {
  const subject = inWorkspace(workspaceId, ["run", runId]);
  return publisher.publish({ ...about, type: "ai.run.completed", subject, payload: { ...result, runId } });
}

/** @param {Publisher} publisher */
export function broadcastAiRunFailed(publisher, { workspaceId, runId, error, ...about }) {
  const subject = inWorkspace(workspaceId, ["run", runId]);
  return publisher.publish({ ...about, type: "ai.run.failed", subject, payload: { runId, error } });
}

/** @param {Publisher} publisher */
export function broadcastActivityCreated(publisher, { workspaceId, activity, ...about }) {
  const subject = inWorkspace(workspaceId, ["activity", activity.id]);
  return publisher.publish({ ...about, type: "activity.created", subject, payload: activity });
}

// --- users

/** A notification for the user `toUserId`. @param {Publisher} publisher */
export function broadcastNotificationNew(publisher, { toUserId, notification, ...about }) {
  const subject = subjectOf(["user", toUserId], ["notification", notification.id]);
  return publisher.publish({ ...about, type: "notification.new", subject, payload: notification });
}

/** Only over NATS: it is not stored. @param {Publisher} publisher */
export function broadcastUserTyping(
  publisher,
  { workspaceId, targetKind, targetId, typingUserId, typing, ...about },
) {
  const subject = `${inWorkspace(workspaceId, [targetKind, targetId])}.typing`;
  const payload = { userId: typingUserId, typing };
  return publisher.publish({ ...about, type: "user.typing", subject, payload, ephemeral: true });
}

// --- the issue tracker

/** @param {Publisher} publisher */
export function broadcastIssueCreated(publisher, { workspaceId, issue, ...about }) {
  const subject = ofIssue(workspaceId, issue.teamId, issue.id);
  return publisher.publish({ ...about, type: "issue.created", subject, payload: issue });
}

/** `changes` has each changed field with its new value. @param {Publisher} publisher */
export function broadcastIssueUpdated(publisher, { workspaceId, teamId, issueId, changes, ...about }) {
  const subject = ofIssue(workspaceId, teamId, issueId);
  return publisher.publish({ ...about, type: "issue.updated", subject, payload: { id: issueId, changes } });
}

/** @param {Publisher} publisher */
export function broadcastIssueDeleted(publisher, { workspaceId, teamId, issueId, ...about }) {
  const subject = ofIssue(workspaceId, teamId, issueId);
  return publisher.publish({ ...about, type: "issue.deleted", subject, payload: { id: issueId } });
}

/** @param {Publisher} publisher */
export function broadcastIssueArchived(publisher, { workspaceId, teamId, issueId, ...about }) {
  const subject = ofIssue(workspaceId, teamId, issueId);
  return publisher.publish({ ...about, type: "issue.archived", subject, payload: { id: issueId } });
}

/** @param {Publisher} publisher */
export function broadcastIssueActivityCreated(publisher, { workspaceId, teamId, issueId, activity, ...about }) {
  const subject = ofIssue(workspaceId, teamId, issueId, ["activity", activity.id]);
  const payload = { ...activity, issueId };
  return publisher.publish({ ...about, type: "issue.activity.created", subject, payload });
}

/** @param {Publisher} publisher */
export function broadcastCommentCreated(publisher, { workspaceId, teamId, issueId, comment, ...about }) {
  const subject = ofIssue(workspaceId, teamId, issueId, ["comment", comment.id]);
  return publisher.publish({ ...about, type: "comment.created", subject, payload: { ...comment, issueId } });
}

/** @param {Publisher} publisher */
export function broadcastCommentUpdated(publisher, { workspaceId, teamId, issueId, commentId, changes, ...about }) {
  const subject = ofIssue(workspaceId, teamId, issueId, ["comment", commentId]);
  const payload = { id: commentId, issueId, changes };
  return publisher.publish({ ...about, type: "comment.updated", subject, payload });
}

/** @param {Publisher} publisher */
export function broadcastCommentDeleted(publisher, { workspaceId, teamId, issueId, commentId, ...about }) {
  const subject = ofIssue(workspaceId, teamId, issueId, ["comment", commentId]);
  return publisher.publish({ ...about, type: "comment.deleted", subject, payload: { id: commentId, issueId } });
}

/** @param {Publisher} publisher */
export function broadcastProjectUpdated(publisher, { workspaceId, projectId, changes, ...about }) {
  const subject = inWorkspace(workspaceId, ["project", projectId]);
  return publisher.publish({ ...about, type: "project.updated", subject, payload: { id: projectId, changes } });
}

/** @param {Publisher} publisher */
export function broadcastCycleUpdated(publisher, { workspaceId, cycleId, changes, ...about }) {
  const subject = inWorkspace(workspaceId, ["cycle", cycleId]);
  return publisher.publish({ ...about, type: "cycle.updated", subject, payload: { id: cycleId, changes } });
}
