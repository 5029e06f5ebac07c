import Primitives
import Synchronization
import Transport

/// Keeps the node alive when there is more to do than it can hold: says from what point on new connections and new requests
/// are turned away. One for all workers; a request looks at one number.
///
/// Steps as in Envoy's overload manager (`stop_accepting_connections`, `stop_accepting_requests`, `disable_http_keepalive`).
final class OverloadGuard: Sendable {
  /// How much is asked of the node; each level includes those before it.
  enum Level: Int, Comparable {
    case normal
    /// Clients are told to connect anew, and idle connections make room.
    case strained
    /// New requests are answered 503 at once.
    case overloaded
    /// New connections are closed.
    case full
    static func < (a: Level, b: Level) -> Bool { a.rawValue < b.rawValue }
  }

  private let memoryLevel = Atomic<Int>(0)
  private let connections = Atomic<Int>(0)
  private let limits: Mutex<OverloadLimits>
  private let connectionsMax: Atomic<Int>
  private let descriptorsMax: Atomic<Int>
  private let bySource = Mutex<[IPAddress: Int]>([:])

  init(_ limits: OverloadLimits) {
    self.limits = Mutex(limits)
    connectionsMax = Atomic(limits.connections)
    descriptorsMax = Atomic(limits.descriptors)
  }

  func use(_ new: OverloadLimits) {
    limits.withLock { $0 = new }
    connectionsMax.store(new.connections, ordering: .relaxed)
    descriptorsMax.store(new.descriptors, ordering: .relaxed)
  }

  /// What memory says; looked at for each request.
  var level: Level { Level(rawValue: memoryLevel.load(ordering: .relaxed)) ?? .full }

  /// Takes a measurement of the process's memory; the level it leads to.
  @discardableResult
  func measured(memoryBytes: Int) -> Level {
    let percent = memoryBytes / max(1, limits.withLock { $0.memoryBytes } / 100)
    let level: Level =
      switch percent {
      case ..<OverloadLimits.strainPercent: .normal
      case ..<OverloadLimits.refusePercent: .strained
      case ..<OverloadLimits.closePercent: .overloaded
      default: .full
      }
    memoryLevel.store(level.rawValue, ordering: .relaxed)
    return level
  }

  // MARK: Connections

  enum Admission: Equatable {
    case admitted
    /// The node has all the connections it may have: one that is idle has to make room.
    case full
    /// This source has its share.
    case sourceFull
  }

  /// Whether a new client connection fits. `descriptor` tells how many are in use: the kernel gives the lowest free number.
  func admission(from source: IPAddress?, descriptor: Int32) -> Admission {
    guard level < .full, Int(descriptor) < descriptorsMax.load(ordering: .relaxed),
      connectionCount < connectionsMax.load(ordering: .relaxed)
    else { return .full }
    guard let source, !source.isLoopback else { return .admitted }
    let perSource = limits.withLock { $0.connectionsPerSource }
    return bySource.withLock { ($0[source] ?? 0) < perSource } ? .admitted : .sourceFull
  }

  /// A client connection was taken.
  func began(from source: IPAddress?) {
    connections.wrappingAdd(1, ordering: .relaxed)
    guard let source, !source.isLoopback else { return }
    bySource.withLock { $0[source, default: 0] += 1 }
  }

  /// It has ended.
  func ended(from source: IPAddress?) {
    connections.wrappingSubtract(1, ordering: .relaxed)
    guard let source, !source.isLoopback else { return }
    bySource.withLock { table in
      guard let there = table[source] else { return }
      table[source] = there > 1 ? there - 1 : nil
    }
  }

  /// Whether idle connections should go before the next client comes.
  var isNearlyFull: Bool {
    let limit = Double(connectionsMax.load(ordering: .relaxed))
    return Double(connectionCount) >= limit * Double(OverloadLimits.strainPercent) / 100
  }

  var connectionCount: Int { connections.load(ordering: .relaxed) }
}
