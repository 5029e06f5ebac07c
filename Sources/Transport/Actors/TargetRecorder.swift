import Primitives
import Synchronization

/// A carrier that reaches nobody: the system that owns it notes the targets of calls instead.
final class TargetRecorder: FrameCarrier {
  let localNode: NodeName
  let remoteNode: NodeName
  private let recorded = Mutex<[MeshTarget.Signature]>([])

  init() {
    guard let local = try? NodeName("recorder"), let remote = try? NodeName("recorded") else {
      preconditionFailure("these are valid names")
    }
    localNode = local
    remoteNode = remote
  }

  var signatures: [MeshTarget.Signature] { recorded.withLock { $0 } }

  func record(identifier: String, arguments: Int) {
    recorded.withLock { $0.append(MeshTarget.Signature(identifier: identifier, arguments: arguments)) }
  }

  func link(to node: NodeName) -> LinkID? { nil }
  func send(_ frame: Frame, on link: LinkID) -> SendResult { .closed }
  func onFrame(_ kinds: [FrameKind], _ handler: @escaping @Sendable (LinkPeer, Frame) -> Void) {}
  func onLinkClosed(_ handler: @escaping @Sendable (LinkPeer, String) -> Void) {}
}
