import CLinux

/// What a descriptor has become ready for.
public struct Readiness: OptionSet, Sendable {
  public let rawValue: UInt8
  public init(rawValue: UInt8) { self.rawValue = rawValue }

  /// A read will not block: it returns bytes, the end of the stream or an error.
  public static let readable = Readiness(rawValue: 1)
  /// A write will not block, or fails.
  public static let writable = Readiness(rawValue: 2)
  /// The peer has ended its sending side; bytes may still be unread. Comes with `readable`.
  public static let peerClosed = Readiness(rawValue: 4)
  /// Both directions are closed.
  public static let hangup = Readiness(rawValue: 8)
  /// The descriptor has a pending error (`Socket.pendingError`).
  public static let error = Readiness(rawValue: 16)

  init(epoll events: UInt32) {
    var ready: Readiness = []
    if events & CL_EPOLLIN != 0 { ready.insert(.readable) }
    if events & CL_EPOLLOUT != 0 { ready.insert(.writable) }
    if events & CL_EPOLLRDHUP != 0 { ready.formUnion([.peerClosed, .readable]) }
    if events & CL_EPOLLHUP != 0 { ready.formUnion([.hangup, .readable, .writable]) }
    if events & CL_EPOLLERR != 0 { ready.formUnion([.error, .readable, .writable]) }
    self = ready
  }
}

/// Told on the loop's thread that its descriptor became ready. Edges: each is reported once.
public protocol EventHandler: AnyObject {
  func ready(_ readiness: Readiness)
}

/// Told on the loop's thread that its timer is due. The token is the one `schedule` returned, and is spent.
public protocol TimerHandler: AnyObject {
  func timerFired(_ token: TimerToken)
}

/// Told on the loop's thread that the turn it asked in ends.
public protocol TurnHandler: AnyObject {
  func turnEnded()
}

final class ClosureTimer: TimerHandler {
  private let action: () -> Void
  init(_ action: @escaping () -> Void) { self.action = action }
  func timerFired(_ token: TimerToken) { action() }
}

/// Names a watched descriptor of one loop. Its number is never used again, so a stale one reaches nobody.
public struct Registration: Hashable {
  let index: UInt32
  let generation: UInt32

  /// What the kernel hands back with each event.
  var data: UInt64 { UInt64(generation) << 32 | UInt64(index) }
}

/// The handlers of watched descriptors, by slot and generation: an event of a closed descriptor finds nothing.
struct SlotTable {
  private struct Slot {
    var generation: UInt32 = 0
    var descriptor: Int32 = -1
    var handler: (any EventHandler)?
  }
  private var slots = ContiguousArray<Slot>()
  private var free = ContiguousArray<UInt32>()

  mutating func insert(_ handler: any EventHandler, descriptor: Int32) -> Registration {
    let index: UInt32
    if let reused = free.popLast() {
      index = reused
    } else {
      index = UInt32(slots.count)
      slots.append(Slot())
    }
    slots[Int(index)].handler = handler
    slots[Int(index)].descriptor = descriptor
    return Registration(index: index, generation: slots[Int(index)].generation)
  }

  /// Frees the slot and returns its descriptor; nil for a stale registration.
  mutating func remove(_ registration: Registration) -> Int32? {
    let index = Int(registration.index)
    guard slots.indices.contains(index), slots[index].generation == registration.generation, slots[index].handler != nil
    else { return nil }
    slots[index].generation &+= 1
    slots[index].handler = nil
    free.append(registration.index)
    return slots[index].descriptor
  }

  func handler(for data: UInt64) -> (any EventHandler)? {
    let index = Int(data & 0xFFFF_FFFF)
    guard slots.indices.contains(index), slots[index].generation == UInt32(data >> 32) else { return nil }
    return slots[index].handler
  }
}
