import Primitives

/// When a link asks whether its peer still answers, and when it gives it up. Times are of the loop's clock.
///
/// A link at rest is asked seldom: membership probes the nodes themselves. One that waits for an answer is asked soon, so what hangs on
/// a peer that has stopped ends as quickly as if every link were asked all the time.
struct LinkPulse: Sendable, Equatable {
  private(set) var heardAt: Instant
  private(set) var askedAt: Instant?
  /// The first message written since the peer was last heard to which it may owe an answer.
  private(set) var unansweredSince: Instant?
  /// Since when a message has begun and not ended.
  private(set) var openSince: Instant?

  init(at now: Instant) { heardAt = now }

  mutating func heard(at now: Instant) {
    heardAt = now
    unansweredSince = nil
  }

  mutating func wrote(at now: Instant) { unansweredSince = unansweredSince ?? now }

  mutating func asked(at now: Instant) {
    askedAt = now
    wrote(at: now)
  }

  /// What arrived was looked through: whether a message was completed, and whether another one is open.
  mutating func decoded(completed: Bool, isOpen: Bool, at now: Instant) {
    if !isOpen { openSince = nil } else if completed || openSince == nil { openSince = now }
  }

  /// How long the peer has owed an answer.
  func silence(at now: Instant) -> Duration { unansweredSince.map { now - $0 } ?? .zero }

  /// Whether to ask now. Of two sides that are at rest the one that dialled asks, which also measures the round trip.
  func isDue(at now: Instant, isDialler: Bool) -> Bool {
    guard let askedAt else { return true }
    if let since = unansweredSince { return now - since >= LinkLimits.answerPatience }
    return isDialler ? now - askedAt >= LinkLimits.restInterval : now - heardAt >= LinkLimits.restInterval * 5 / 4
  }

  /// Why the link has to end, or nil.
  func complaint(at now: Instant) -> String? {
    if silence(at: now) >= LinkLimits.silenceTimeout { return "nothing was heard for \(LinkLimits.silenceTimeout)" }
    if let openSince, now - openSince >= LinkLimits.frameTimeout {
      return "a frame took longer than \(LinkLimits.frameTimeout)"
    }
    return nil
  }
}
