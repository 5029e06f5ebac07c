import Primitives
import Synchronization

/// One call that is waiting or running here.
final class InboundCall: Sendable {
  let caller: NodeName
  let id: UInt64
  let order: MeshTarget.Order
  /// Of its arguments, while it waits.
  let bytes: Int
  private let work: @Sendable (InboundCall) async -> Void
  private let state = Mutex(State())

  private struct State {
    /// What runs the call; a runner runs others, too, and is the call's for as long as this says so.
    var task: Task<Void, Never>?
    var isCancelled = false
  }

  init(
    caller: NodeName, id: UInt64, order: MeshTarget.Order, bytes: Int, work: @escaping @Sendable (InboundCall) async -> Void
  ) {
    self.caller = caller
    self.id = id
    self.order = order
    self.bytes = bytes
    self.work = work
  }

  var isCancelled: Bool { state.withLock { $0.isCancelled } }

  /// Cancels the call whether it waits or runs; it still gets its one reply.
  func cancel() {
    state.withLock { state in
      state.isCancelled = true
      // Within the lock, or a runner could have gone on to another call.
      state.task?.cancel()
    }
  }

  /// Runs the call in a runner's task; false when that was cancelled with it, and another has to go on.
  fileprivate func run(in runner: Task<Void, Never>?) async -> Bool {
    let isEarly = state.withLock { state in
      if !state.isCancelled { state.task = runner }
      return state.isCancelled
    }
    await work(self)
    return state.withLock { state in
      state.task = nil
      return !state.isCancelled || isEarly || runner == nil
    }
  }

  /// Runs the call in a task of its own.
  fileprivate func start(then finished: @escaping @Sendable () -> Void) {
    let task = Task.detached {
      await self.work(self)
      finished()
    }
    state.withLock { state in
      state.task = task
      if state.isCancelled { task.cancel() }
    }
  }
}

/// The calls waiting for one actor, started in the order in which they came.
///
/// Swift actors are reentrant, so order is kept here: a serial call is started when the one before it has replied. One task,
/// the runner, takes serial calls one after the other for as long as there are any, so a burst wakes one thread once.
final class Mailbox: Sendable {
  private let state = Mutex(State())

  private struct State {
    var waiting: [InboundCall?] = []
    var head = 0
    var bytes = 0
    var perCaller: [NodeName: Share] = [:]
    /// A runner takes calls, or is about to.
    var isRunning = false
    var runner: Task<Void, Never>?
    var concurrentRunning = 0

    var count: Int { waiting.count - head }
    var first: InboundCall? { head < waiting.count ? waiting[head] : nil }

    mutating func append(_ call: InboundCall) {
      perCaller[call.caller, default: Share()].calls += 1
      perCaller[call.caller, default: Share()].bytes += call.bytes
      bytes += call.bytes
      waiting.append(call)
    }

    mutating func removeFirst() {
      guard let call = first else { return }
      waiting[head] = nil
      head += 1
      if head == waiting.count {
        waiting.removeAll(keepingCapacity: waiting.capacity <= CallLimits.mailboxCallsKept)
        head = 0
      } else if head > 64 && head > waiting.count / 2 {
        waiting.removeSubrange(..<head)
        head = 0
      }
      bytes -= call.bytes
      perCaller[call.caller]?.calls -= 1
      perCaller[call.caller]?.bytes -= call.bytes
      if perCaller[call.caller]?.calls == 0 { perCaller[call.caller] = nil }
    }
  }

  /// What one caller has waiting.
  private struct Share {
    var calls = 0
    var bytes = 0
  }

  private enum Step {
    case none
    case start(InboundCall)
    case run(InboundCall)
  }

  /// Calls waiting, without those that run.
  var count: Int { state.withLock { $0.count } }

  /// Takes the call, or returns false when the mailbox or the caller's share of it is full.
  func push(_ call: InboundCall) -> Bool {
    let accepted = state.withLock { state in
      let own = state.perCaller[call.caller] ?? Share()
      guard state.count < CallLimits.mailboxMax, own.calls < CallLimits.mailboxPerCallerMax,
        state.bytes + call.bytes <= CallLimits.mailboxBytesMax || state.count == 0,
        own.bytes + call.bytes <= CallLimits.mailboxBytesPerCallerMax || own.calls == 0
      else { return false }
      state.append(call)
      return true
    }
    if accepted { startReady(mayRunHere: true) }
    return accepted
  }

  /// Starts what may start: concurrent calls each by itself, a serial one by a runner, which then goes on with the others.
  ///
  /// - Parameter mayRunHere: never where a call ends, or each could run the next one inside of itself.
  private func startReady(mayRunHere: Bool = false) {
    while true {
      let step = state.withLock { state -> Step in
        guard !state.isRunning, let first = state.first else { return .none }
        switch first.order {
        case .concurrent: return takeConcurrent(first, &state)
        case .serial, .brief:
          guard mayRunHere, first.order == .brief else {
            startRunner(&state)
            return .none
          }
          state.isRunning = true
          state.removeFirst()
          return .run(first)
        }
      }
      switch step {
      case .none: return
      case .start(let call): call.start { [self] in finishedConcurrent() }
      case .run(let call): runHere(call)
      }
    }
  }

  /// Runs a brief call on this thread as far as it goes without waiting.
  private func runHere(_ call: InboundCall) {
    Task.immediate { [self] in
      _ = await call.run(in: nil)
      state.withLock { $0.isRunning = false }
      startReady()
    }
  }

  private func takeConcurrent(_ call: InboundCall, _ state: inout State) -> Step {
    guard state.concurrentRunning < CallLimits.concurrentMax else { return .none }
    state.concurrentRunning += 1
    state.removeFirst()
    return .start(call)
  }

  private func finishedConcurrent() {
    state.withLock { $0.concurrentRunning -= 1 }
    startReady()
  }

  private func startRunner(_ state: inout State) {
    state.isRunning = true
    state.runner = Task.detached { await self.run() }
  }

  private func run() async {
    while true {
      let (step, runner) = state.withLock { state -> (Step, Task<Void, Never>?) in
        if let first = state.first {
          if first.order != .concurrent {
            state.removeFirst()
            return (.run(first), state.runner)
          }
          // A serial call that runs holds back those behind it, concurrent ones too: they may depend on its effect.
          let step = takeConcurrent(first, &state)
          if case .start = step { return (step, nil) }
        }
        state.isRunning = false
        state.runner = nil
        return (.none, nil)
      }
      switch step {
      case .none: return
      case .start(let call): call.start { [self] in finishedConcurrent() }
      case .run(let call):
        if await !call.run(in: runner) { return state.withLock { startRunner(&$0) } }
      }
    }
  }
}
