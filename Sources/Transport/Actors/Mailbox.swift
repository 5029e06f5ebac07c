import Primitives
import Synchronization

/// One call that is waiting or running here.
final class InboundCall: Sendable {
  let caller: NodeName
  let id: UInt64
  let order: MeshTarget.Order
  private let work: @Sendable (InboundCall) async -> Void
  private let state = Mutex(State())

  private struct State {
    var task: Task<Void, Never>?
    var isCancelled = false
  }

  init(caller: NodeName, id: UInt64, order: MeshTarget.Order, work: @escaping @Sendable (InboundCall) async -> Void) {
    self.caller = caller
    self.id = id
    self.order = order
    self.work = work
  }

  var isCancelled: Bool { state.withLock { $0.isCancelled } }

  /// Cancels the call whether it waits or runs; it still gets its one reply.
  func cancel() {
    let task = state.withLock { state in
      state.isCancelled = true
      return state.task
    }
    task?.cancel()
  }

  fileprivate func start(then finished: @escaping @Sendable () -> Void) {
    let task = Task.detached {
      await self.work(self)
      finished()
    }
    let isCancelled = state.withLock { state in
      state.task = task
      return state.isCancelled
    }
    if isCancelled { task.cancel() }
  }
}

/// The calls waiting for one actor, started in the order in which they came.
///
/// Swift actors are reentrant, so order is kept here: a serial call is started when the one before it has replied.
final class Mailbox: Sendable {
  private let state = Mutex(State())

  private struct State {
    var waiting: [InboundCall] = []
    var head = 0
    var perCaller: [NodeName: Int] = [:]
    var isSerialRunning = false
    var concurrentRunning = 0

    var count: Int { waiting.count - head }

    /// The call to start now, if its turn has come.
    mutating func pop() -> InboundCall? {
      guard head < waiting.count else { return nil }
      let call = waiting[head]
      switch call.order {
      case .serial:
        guard !isSerialRunning else { return nil }
        isSerialRunning = true
      case .concurrent:
        // A serial call that runs holds back those behind it, concurrent ones too: they may depend on its effect.
        guard !isSerialRunning, concurrentRunning < CallLimits.concurrentMax else { return nil }
        concurrentRunning += 1
      }
      head += 1
      if head == waiting.count {
        waiting.removeAll(keepingCapacity: true)
        head = 0
      } else if head > 64 && head > waiting.count / 2 {
        waiting.removeSubrange(..<head)
        head = 0
      }
      if let count = perCaller[call.caller] { perCaller[call.caller] = count > 1 ? count - 1 : nil }
      return call
    }
  }

  /// Calls waiting, without those that run.
  var count: Int { state.withLock { $0.count } }

  /// Takes the call, or returns false when the mailbox or the caller's share of it is full.
  func push(_ call: InboundCall) -> Bool {
    let accepted = state.withLock { state in
      let own = state.perCaller[call.caller] ?? 0
      guard state.count < CallLimits.mailboxMax, own < CallLimits.mailboxPerCallerMax else { return false }
      state.perCaller[call.caller] = own + 1
      state.waiting.append(call)
      return true
    }
    if accepted { startReady() }
    return accepted
  }

  private func startReady() {
    while let call = state.withLock({ $0.pop() }) {
      call.start { [self] in finished(call.order) }
    }
  }

  private func finished(_ order: MeshTarget.Order) {
    state.withLock { state in
      switch order {
      case .serial: state.isSerialRunning = false
      case .concurrent: state.concurrentRunning -= 1
      }
    }
    startReady()
  }
}
