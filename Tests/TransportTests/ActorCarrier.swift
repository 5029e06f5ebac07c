import Dispatch
import Primitives
import Synchronization

@testable import Transport

/// One end of a pair of carriers in memory, with a way to cut, to forge and to watch.
final class PairedCarrier: FrameCarrier {
  let localNode: NodeName
  private let queue = DispatchQueue(label: "paired carrier")
  private let state = Mutex(State())

  private struct State {
    var frames: [FrameKind: @Sendable (LinkPeer, Frame) -> Void] = [:]
    var closed: (@Sendable (LinkPeer, String) -> Void)?
    weak var other: PairedCarrier?
    var isOpen = true
    var link: UInt64 = 1
    var sent: [Frame] = []
    var result = SendResult.queued
  }

  init(_ node: NodeName) { localNode = node }

  static func pair() throws -> (PairedCarrier, PairedCarrier) {
    let (a, b) = (PairedCarrier(try NodeName("a")), PairedCarrier(try NodeName("b")))
    a.state.withLock { $0.other = b }
    b.state.withLock { $0.other = a }
    return (a, b)
  }

  var sent: [Frame] { state.withLock { $0.sent } }
  private var peer: LinkPeer? {
    state.withLock { state in
      state.other.map { LinkPeer(node: $0.localNode, link: LinkID(state.link)) }
    }
  }

  /// Answers every later send with `result` when it is not `.queued`.
  func answerSends(with result: SendResult) { state.withLock { $0.result = result } }

  func link(to node: NodeName) -> LinkID? {
    state.withLock { $0.other?.localNode == node ? LinkID($0.link) : nil }
  }

  func send(_ frame: Frame, on link: LinkID) -> SendResult {
    guard frame.body.count <= frame.kind.bodyBytesMax else { return .tooLong }
    let (result, other) = state.withLock { state -> (SendResult, PairedCarrier?) in
      guard state.isOpen, link == LinkID(state.link) else { return (.closed, nil) }
      state.sent.append(frame)
      return (state.result, state.result == .queued ? state.other : nil)
    }
    other?.deliver(frame)
    return result
  }

  /// Delivers a frame to this end as if its peer had sent it.
  func deliver(_ frame: Frame) {
    queue.async { [self] in
      let (handler, isOpen) = state.withLock { ($0.frames[frame.kind], $0.isOpen) }
      if isOpen, let peer { handler?(peer, frame) }
    }
  }

  func cut(_ reason: String) {
    let other = state.withLock { $0.other }
    for end in [self, other].compactMap({ $0 }) {
      end.queue.async {
        let closed = end.state.withLock { state in
          defer { state.isOpen = false }
          return state.isOpen ? state.closed : nil
        }
        if let peer = end.peer { closed?(peer, reason) }
      }
    }
  }

  /// Connects both ends anew, by another link.
  func mend() {
    let other = state.withLock { $0.other }
    for end in [self, other].compactMap({ $0 }) {
      end.queue.sync {
        end.state.withLock { state in
          state.isOpen = true
          state.link += 1
        }
      }
    }
  }

  func onFrame(_ kinds: [FrameKind], _ handler: @escaping @Sendable (LinkPeer, Frame) -> Void) {
    state.withLock { state in
      for kind in kinds { state.frames[kind] = handler }
    }
  }
  func onLinkClosed(_ handler: @escaping @Sendable (LinkPeer, String) -> Void) { state.withLock { $0.closed = handler } }
}

/// Lets one task wait until another has come to a point.
actor Gate {
  private(set) var isOpen = false
  private var waiting: [CheckedContinuation<Void, Never>] = []

  func open() {
    isOpen = true
    for continuation in waiting { continuation.resume() }
    waiting = []
  }
  func wait() async {
    if isOpen { return }
    await withCheckedContinuation { waiting.append($0) }
  }
}
