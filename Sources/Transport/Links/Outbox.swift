import Primitives
import Synchronization

/// The frames waiting for one link, filled from any thread and emptied on the loop.
///
/// It may exist before its link does: then it is dropped whole when the link cannot be made.
final class Outbox: Sendable {
  let id: LinkID
  let node: NodeName
  private let state = Mutex(State())
  private let wake: @Sendable (Outbox) -> Void

  private struct State {
    var queues = LaneQueues()
    var isClosed = false
    /// New calls belong on the link that took over.
    var isRetired = false
    /// A link will look at the queues without being woken.
    var isAwake = true
    /// Calls without a reply, of both directions.
    var callsSent = 0
    var callsReceived = 0
    /// Something was queued since the last batch to which the peer may owe an answer.
    var asksForAnswer = false
    /// Where who sends may write by itself.
    var channel: LinkChannel?

    /// Whether this frame is of the only call under way: with others, the loop writes what they send together.
    func isAlone(_ frame: Frame) -> Bool {
      switch frame.kind {
      case .request: callsSent == 1 && callsReceived == 0
      case .reply: callsSent == 0 && callsReceived == 0 && !isRetired
      default: false
      }
    }
  }

  /// What was taken for one batch.
  struct Taken {
    /// Whether something to which the peer may owe an answer was queued since the batch before.
    var asksForAnswer: Bool
    var bulkBytes: Int
  }

  init(id: LinkID, node: NodeName, wake: @escaping @Sendable (Outbox) -> Void) {
    self.id = id
    self.node = node
    self.wake = wake
  }

  func send(_ frame: Frame) -> SendResult {
    let (result, shouldWake, channel) = state.withLock { state -> (SendResult, Bool, LinkChannel?) in
      let isNewCall = [.request, .route, .watch].contains(frame.kind)
      guard !state.isClosed, !(state.isRetired && isNewCall) else { return (.closed, false, nil) }
      let result = state.queues.append(frame)
      guard result == .queued else { return (result, false, nil) }
      if frame.mayBeAnswered { state.asksForAnswer = true }
      if frame.kind == .request { state.callsSent += 1 }
      if frame.kind == .reply { state.callsReceived = max(0, state.callsReceived - 1) }
      defer { state.isAwake = true }
      return (result, !state.isAwake, state.isAlone(frame) ? state.channel : nil)
    }
    if shouldWake, channel?.flushNow(self) != true { wake(self) }
    return result
  }

  /// Puts the next bytes to write into an empty batch; of bulk about as much as there is room for. When there are none, the next
  /// send wakes the link, and so does the peer by reading more.
  @discardableResult
  func take(into batch: inout [UInt8], bulkRoom: Int = .max) -> Taken {
    state.withLock { state in
      let bulk = state.queues.take(into: &batch, limit: LinkLimits.writeBatchBytes, bulkRoom: bulkRoom)
      if batch.isEmpty { state.isAwake = false }
      defer { state.asksForAnswer = false }
      return Taken(asksForAnswer: state.asksForAnswer, bulkBytes: bulk)
    }
  }

  /// Lets who sends write to the channel, as long as the link is established.
  func attach(_ channel: LinkChannel?) { state.withLock { $0.channel = channel } }

  func received(_ kind: FrameKind) {
    guard kind == .request || kind == .reply else { return }
    state.withLock { state in
      if kind == .request { state.callsReceived += 1 } else { state.callsSent = max(0, state.callsSent - 1) }
    }
  }

  var isIdle: Bool { state.withLock { $0.queues.isEmpty && $0.callsSent == 0 && $0.callsReceived == 0 } }
  var queuedBytes: Int { state.withLock { $0.queues.bytes } }
  var callsInFlight: Int { state.withLock { $0.callsSent + $0.callsReceived } }

  /// Takes no new calls, and says so to the peer behind everything that waits.
  func retire() {
    state.withLock { $0.isRetired = true }
    let notice = LinkNotice(code: LinkNotice.replaced, text: "another link has taken over")
    _ = send(Frame(kind: .goodbye, lane: .bulk, body: notice.body))
  }

  func close() {
    state.withLock { state in
      state.isClosed = true
      state.channel = nil
      state.queues = LaneQueues()
    }
  }
}
