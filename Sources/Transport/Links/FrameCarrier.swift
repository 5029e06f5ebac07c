import Primitives

/// One link, and the queue of frames for it, as long as this process lives. Never used twice.
public struct LinkID: Hashable, Sendable {
  public let number: UInt64
  init(_ number: UInt64) { self.number = number }
}

/// The node at the other end of a link, as its certificate proves it.
public struct LinkPeer: Hashable, Sendable {
  public let node: NodeName
  public let link: LinkID

  public init(node: NodeName, link: LinkID) {
    self.node = node
    self.link = link
  }
}

/// What carries frames between nodes: `LinkNetwork`, or a pair in memory.
///
/// Everything given to one link in one lane arrives in order or not at all. `onFrame` and `onLinkClosed` are called on one
/// thread, must return at once, and have to be set before the carrier starts.
public protocol FrameCarrier: AnyObject, Sendable {
  var localNode: NodeName { get }
  /// The link on which frames for `node` travel now: established, or a queue that the next one empties.
  /// Nil when no address is known or too many peers have state.
  func link(to node: NodeName) -> LinkID?
  func send(_ frame: Frame, on link: LinkID) -> SendResult
  func onFrame(_ kinds: [FrameKind], _ handler: @escaping @Sendable (LinkPeer, Frame) -> Void)
  /// Called once for every link that ended, with a reason for people; nothing more arrives on it.
  func onLinkClosed(_ handler: @escaping @Sendable (LinkPeer, String) -> Void)
}
