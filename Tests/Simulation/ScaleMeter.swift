import Membership
import Primitives

/// What nodes send, and when each of them learns of one thing.
struct ScaleMeter {
  /// What everybody is to learn.
  enum News: Hashable {
    case member(NodeName, MemberState)
    case row(RowKey, RowVersion)
  }

  private(set) var datagrams = 0
  private(set) var streams = 0
  /// Bytes sent by each node.
  private(set) var bytes: [Int]
  private var news: News?
  private var since = Instant.zero
  /// How long it took each node to learn of it.
  private(set) var delays: [Int: Duration] = [:]

  init(nodes: Int) { bytes = Array(repeating: 0, count: nodes) }

  mutating func sent(_ count: Int, by index: Int, isDatagram: Bool) {
    bytes[index] += count
    if isDatagram { datagrams += 1 } else { streams += 1 }
  }

  mutating func forgetTraffic() {
    (datagrams, streams) = (0, 0)
    bytes = bytes.map { _ in 0 }
  }

  mutating func watch(_ news: News?, from now: Instant) {
    self.news = news
    since = now
    delays = [:]
  }

  mutating func saw(_ change: MemberChange, by index: Int, at now: Instant) {
    guard case .member(let name, let state)? = news, let new = change.new, new.name == name, new.state == state else { return }
    if delays[index] == nil { delays[index] = now - since }
  }

  mutating func saw(_ changes: [RowChange], by index: Int, at now: Instant) {
    guard case .row(let key, let version)? = news, delays[index] == nil else { return }
    if changes.contains(where: { $0.new?.key == key && $0.new.map { $0.version >= version } == true }) {
      delays[index] = now - since
    }
  }
}
