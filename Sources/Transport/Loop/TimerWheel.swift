import Primitives

/// Names one timer of one loop; spent once it fires or is cancelled, and then ignored.
public struct TimerToken: Hashable, Sendable {
  let index: Int32
  let generation: UInt32

  /// A token no timer has.
  public static let none = TimerToken(index: -1, generation: 0)
}

/// A hierarchical timing wheel (Varghese and Lauck 1987): six levels of 64 slots, the lowest of one millisecond.
///
/// Insert and cancel are O(1) and allocate nothing once the node table is warm. Each slot is a doubly linked list through
/// the node table, and a bit a slot says which lists hold anything, so the next deadline is found without a scan.
struct TimerWheel {
  private static let levels = 6
  private static let slotsPerLevel = 64
  private static let tick: UInt64 = 1_000_000
  /// Ticks the wheel spans (2.2 years); later timers wait in the top level and are placed again from there.
  private static let span: UInt64 = 1 << 36
  /// The list of timers that are due and not yet handed out.
  private static let due = levels * slotsPerLevel

  private struct Node {
    var generation: UInt32 = 0
    var list: Int32 = -1
    var previous: Int32 = -1
    var next: Int32 = -1
    var when: UInt64 = 0
    var handler: (any TimerHandler)?
  }
  private struct List {
    var first: Int32 = -1
    var last: Int32 = -1
  }

  private var nodes = ContiguousArray<Node>()
  private var free = ContiguousArray<Int32>()
  private var lists = ContiguousArray<List>(repeating: List(), count: due + 1)
  private var occupied = ContiguousArray<UInt64>(repeating: 0, count: levels)
  /// The tick up to which timers were taken out.
  private var elapsed: UInt64 = 0
  private(set) var count = 0

  mutating func insert(_ handler: any TimerHandler, at deadline: Instant, now: Instant) -> TimerToken {
    if count == 0 { elapsed = max(elapsed, now.nanoseconds / Self.tick) }
    let index: Int32
    if let reused = free.popLast() {
      index = reused
    } else {
      index = Int32(nodes.count)
      nodes.append(Node())
    }
    let (ticks, rest) = deadline.nanoseconds.quotientAndRemainder(dividingBy: Self.tick)
    nodes[Int(index)].when = rest == 0 ? ticks : ticks + 1
    nodes[Int(index)].handler = handler
    place(index)
    count += 1
    return TimerToken(index: index, generation: nodes[Int(index)].generation)
  }

  mutating func cancel(_ token: TimerToken) {
    let index = Int(token.index)
    guard nodes.indices.contains(index), nodes[index].generation == token.generation, nodes[index].handler != nil else {
      return
    }
    _ = take(token.index)
  }

  /// The next timer due at `now`, taken out; handlers may insert and cancel between two calls.
  mutating func popExpired(at now: Instant) -> (handler: any TimerHandler, token: TimerToken)? {
    let tick = now.nanoseconds / Self.tick
    while true {
      let first = lists[Self.due].first
      if first >= 0 {
        let token = TimerToken(index: first, generation: nodes[Int(first)].generation)
        guard let handler = take(first) else { continue }
        return (handler, token)
      }
      guard let next = nextSlot(), next.start <= tick else {
        elapsed = max(elapsed, tick)
        return nil
      }
      elapsed = max(elapsed, next.start)
      empty(next.list)
    }
  }

  /// When the loop has to look again: a timer's deadline, or an earlier moment at which timers change levels.
  var nextDeadline: Instant? {
    if lists[Self.due].first >= 0 { return .zero }
    guard let start = nextSlot()?.start else { return nil }
    let (nanoseconds, overflow) = start.multipliedReportingOverflow(by: Self.tick)
    return overflow ? .distantFuture : Instant(nanoseconds: nanoseconds)
  }

  /// The earliest slot that holds timers, and the tick at which it begins.
  private func nextSlot() -> (list: Int, start: UInt64)? {
    for level in 0..<Self.levels where occupied[level] != 0 {
      let shift = UInt64(level * 6)
      // From the slot after the current one: what the current one holds is a whole revolution away.
      let first = ((elapsed >> shift) + 1) & 63
      let bits = occupied[level]
      let rotated = first == 0 ? bits : bits >> first | bits << (64 - first)
      let slot = (first + UInt64(rotated.trailingZeroBitCount)) & 63
      let range = UInt64(64) << shift
      var start = (elapsed & ~(range - 1)) + slot << shift
      // Only the top level wraps: a slot behind the current one belongs to the next revolution.
      if start <= elapsed, level == Self.levels - 1 { start += range }
      return (level * Self.slotsPerLevel + Int(slot), start)
    }
    return nil
  }

  /// Moves what a slot holds to where it belongs now: due, or a lower level.
  private mutating func empty(_ list: Int) {
    var index = lists[list].first
    lists[list] = List()
    occupied[list / 64] &= ~(1 << UInt64(list % 64))
    while index >= 0 {
      let next = nodes[Int(index)].next
      if nodes[Int(index)].when <= elapsed { append(index, to: Self.due) } else { place(index) }
      index = next
    }
  }

  /// Puts a node into the slot of its tick; one that is already past gets the next tick.
  private mutating func place(_ index: Int32) {
    let when = min(max(nodes[Int(index)].when, elapsed + 1), elapsed + Self.span - 1)
    let differing = min((elapsed ^ when) | 63, Self.span - 1)
    let level = (63 - differing.leadingZeroBitCount) / 6
    let slot = Int((when >> UInt64(level * 6)) & 63)
    occupied[level] |= 1 << UInt64(slot)
    append(index, to: level * Self.slotsPerLevel + slot)
  }

  private mutating func append(_ index: Int32, to list: Int) {
    let last = lists[list].last
    nodes[Int(index)].list = Int32(list)
    nodes[Int(index)].previous = last
    nodes[Int(index)].next = -1
    if last >= 0 { nodes[Int(last)].next = index } else { lists[list].first = index }
    lists[list].last = index
  }

  /// Unlinks a node, frees it and returns its handler.
  private mutating func take(_ index: Int32) -> (any TimerHandler)? {
    let node = nodes[Int(index)]
    let list = Int(node.list)
    if node.previous >= 0 { nodes[Int(node.previous)].next = node.next } else { lists[list].first = node.next }
    if node.next >= 0 { nodes[Int(node.next)].previous = node.previous } else { lists[list].last = node.previous }
    if list < Self.due, lists[list].first < 0 { occupied[list / 64] &= ~(1 << UInt64(list % 64)) }
    nodes[Int(index)].handler = nil
    nodes[Int(index)].generation &+= 1
    free.append(index)
    count -= 1
    return node.handler
  }
}
