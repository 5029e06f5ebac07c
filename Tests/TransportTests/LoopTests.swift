import Glibc
import Primitives
import Synchronization
import Testing

@testable import Transport

@Suite struct LoopTests {
  @Test func `jobs run in the order they were posted, over several turns`() throws {
    let count = TransportLimits.loopJobsPerTurn * 3 + 7
    let seen = try withLoop { loop in
      let order = Mutex<[Int]>([])
      for number in 0..<count { loop.post { order.withLock { $0.append(number) } } }
      return onLoop(loop) { order.withLock { $0 } }
    }
    #expect(seen == Array(0..<count))
  }

  @Test func `jobs posted before stop run, and join returns`() throws {
    let ran = Atomic<Int>(0)
    let loop = try EventLoop(name: "stopping")
    try loop.start()
    for _ in 0..<1000 { loop.post { ran.add(1, ordering: .relaxed) } }
    loop.stop()
    loop.join()
    #expect(ran.load(ordering: .relaxed) == 1000)
    #expect(!loop.isOnLoop)
  }

  @Test func `only jobs are on the loop`() throws {
    try withLoop { loop in
      #expect(!loop.isOnLoop)
      #expect(onLoop(loop) { loop.isOnLoop })
    }
  }

  @Test func `an actor runs on its loop`() async throws {
    let loop = try EventLoop(name: "actor")
    try loop.start()
    let actor = LoopActor(loop)
    #expect(await actor.isOnLoop)
    await actor.finish()
    loop.stop()
    loop.join()
  }

  @Test func `timers fire once, in order of their deadlines, and never early`() throws {
    let fired = try withLoop { loop in
      let answer = Answer<[(Int, Bool)]>()
      let box = LoopBox(answer)
      loop.post {
        let record = Record<(Int, Bool)>()
        for delay in [9, 3, 6, 1] {
          let deadline = loop.now + .milliseconds(delay)
          loop.schedule(after: .milliseconds(delay)) {
            record.values.append((delay, EventLoop.monotonicNow() >= deadline))
            if record.values.count == 4 { box.value.give(record.values) }
          }
        }
      }
      return answer.wait()
    }
    #expect(fired.map(\.0) == [1, 3, 6, 9])
    #expect(fired.allSatisfy { $0.1 })
  }

  @Test func `handlers that ask for the end of the turn run after its jobs`() throws {
    let order = try withLoop { loop in
      let record = LoopBox(Record<String>())
      let answer = Answer<[String]>()
      loop.post {
        loop.atEndOfTurn(
          TurnEnd {
            record.value.values.append("end")
            answer.give(record.value.values)
          })
        record.value.values.append("job")
      }
      return answer.wait()
    }
    #expect(order == ["job", "end"])
  }

  @Test func `a descriptor is reported readable after its peer writes, and both when it is closed`() throws {
    let (near, far) = try Socket.pair()
    defer { close(near) }
    let seen = try withLoop { loop in
      let answer = Answer<[Readiness]>()
      loop.post {
        let handler = RecordingHandler { handler in
          if handler.seen.last?.contains(.hangup) == true { answer.give(handler.seen) }
        }
        _ = try? loop.register(near, handler)
      }
      _ = onLoop(loop) { 0 }
      _ = [UInt8(1)].withUnsafeBytes { Socket.write(far, $0) }
      close(far)
      return answer.wait()
    }
    #expect(seen.contains { $0.contains(.readable) })
    #expect(seen.last?.isSuperset(of: [.readable, .writable, .hangup, .peerClosed]) == true)
  }

  @Test func `an event of a deregistered descriptor never reaches the handler that took its number`() throws {
    // Both ends become ready in one turn; whichever is told first removes the other and registers a new handler in its
    // slot. The event still in hand carries the old generation.
    let (a, b) = try Socket.pair()
    let (c, d) = try Socket.pair()
    let (e, f) = try Socket.pair()
    defer { for descriptor in [a, b, c, d, e, f] { close(descriptor) } }
    let reached = try withLoop { loop in
      let answer = Answer<Int>()
      loop.post {
        let late = Record<Readiness>()
        let newcomer = RecordingHandler { late.values += $0.seen }
        var registrations: [Int32: Registration] = [:]
        var exchanged = false
        let swap: (Int32) -> (RecordingHandler) -> Void = { other in
          { _ in
            guard !exchanged, let victim = registrations[other] else { return }
            exchanged = true
            loop.deregister(victim)
            loop.deregister(victim)
            _ = try? loop.register(e, newcomer)
          }
        }
        registrations[a] = try? loop.register(a, RecordingHandler(swap(c)))
        registrations[c] = try? loop.register(c, RecordingHandler(swap(a)))
        loop.schedule(after: .milliseconds(5)) { answer.give(late.values.count) }
      }
      return answer.wait()
    }
    // Its own first edge (writable) is the only one it sees.
    #expect(reached == 1)
  }

  @Test func `a value bound to a loop is reached on it`() throws {
    try withLoop { loop in
      let bound = LoopBound(Record<Int>(), on: loop)
      #expect(onLoop(loop) { bound.value.values.isEmpty })
    }
  }
}

final class Record<Value> {
  var values: [Value] = []
}

final class TurnEnd: TurnHandler {
  private let action: () -> Void
  init(_ action: @escaping () -> Void) { self.action = action }
  func turnEnded() { action() }
}

actor LoopActor {
  private let loop: EventLoop
  init(_ loop: EventLoop) { self.loop = loop }
  nonisolated var unownedExecutor: UnownedSerialExecutor { loop.asUnownedSerialExecutor() }
  var isOnLoop: Bool { loop.isOnLoop }
  func finish() {}
}

@Suite struct LoopTimerTests {
  private func instant(_ milliseconds: UInt64) -> Instant { Instant(nanoseconds: milliseconds * 1_000_000) }

  @Test(arguments: 0..<20) func `the wheel agrees with a sorted list`(seed: UInt64) {
    var random = SeededGenerator(seed: seed)
    var wheel = TimerWheel()
    var twin: [(deadline: UInt64, token: TimerToken)] = []
    let handler = RecordingTimer()
    var now: UInt64 = random.below(1 << 40)
    for _ in 0..<2000 {
      switch random.below(10) {
      case 0..<5:
        let reach = random.below(40)
        let deadline = now + random.below(1 << reach)
        let token = wheel.insert(handler, at: instant(deadline), now: instant(now))
        twin.append((max(deadline, now + 1), token))
      case 5..<7 where !twin.isEmpty:
        let victim = twin.remove(at: random.index(below: twin.count)).token
        wheel.cancel(victim)
        wheel.cancel(victim)
      default:
        now += random.below(1 << random.below(36))
        var expired: Set<TimerToken> = []
        while let next = wheel.popExpired(at: instant(now)) { expired.insert(next.token) }
        #expect(expired == Set(twin.filter { $0.deadline <= now }.map(\.token)))
        twin.removeAll { $0.deadline <= now }
      }
      #expect(wheel.count == twin.count)
      if let first = twin.map(\.deadline).min() {
        // It may ask to be looked at earlier, when timers change levels, and never later.
        #expect(wheel.nextDeadline.map { $0 <= instant(first) } == true)
      } else {
        #expect(wheel.nextDeadline == nil)
      }
    }
  }

  @Test func `timers of one slot come out in the order of their deadlines and then of their making`() {
    var wheel = TimerWheel()
    let handler = RecordingTimer()
    let tokens = [50, 10, 10, 30].map { wheel.insert(handler, at: instant($0), now: .zero) }
    var order: [TimerToken] = []
    while let next = wheel.popExpired(at: instant(100)) { order.append(next.token) }
    #expect(order == [tokens[1], tokens[2], tokens[3], tokens[0]])
  }

  @Test func `a spent token does not cancel the timer that took its place`() {
    var wheel = TimerWheel()
    let handler = RecordingTimer()
    let first = wheel.insert(handler, at: instant(5), now: .zero)
    #expect(wheel.popExpired(at: instant(5))?.token == first)
    let second = wheel.insert(handler, at: instant(9), now: instant(5))
    wheel.cancel(first)
    wheel.cancel(.none)
    #expect(wheel.popExpired(at: instant(9))?.token == second)
  }

  @Test func `a timer that is due may be cancelled by one that fires before it`() {
    var wheel = TimerWheel()
    let handler = RecordingTimer()
    _ = wheel.insert(handler, at: instant(3), now: .zero)
    let second = wheel.insert(handler, at: instant(3), now: .zero)
    #expect(wheel.popExpired(at: instant(3)) != nil)
    wheel.cancel(second)
    #expect(wheel.popExpired(at: instant(3)) == nil)
    #expect(wheel.nextDeadline == nil)
  }

  @Test func `deadlines beyond the wheel's span, and past ones, are kept`() {
    var wheel = TimerWheel()
    let handler = RecordingTimer()
    _ = wheel.insert(handler, at: .distantFuture, now: instant(7))
    let past = wheel.insert(handler, at: .zero, now: instant(7))
    #expect(wheel.popExpired(at: instant(8))?.token == past)
    #expect(wheel.popExpired(at: instant(1 << 38)) == nil)
    #expect(wheel.count == 1)
  }
}
