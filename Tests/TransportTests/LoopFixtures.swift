import Glibc
import Primitives
import Synchronization
import Transport

/// Runs a loop for one test and ends it afterwards.
func withLoop<Result>(_ body: (EventLoop) throws -> Result) throws -> Result {
  let loop = try EventLoop(name: "test")
  try loop.start()
  defer {
    loop.stop()
    loop.join()
  }
  return try body(loop)
}

/// Runs `action` on the loop and waits for it.
func onLoop<Result: Sendable>(_ loop: EventLoop, _ action: @escaping @Sendable () -> Result) -> Result {
  let answer = Answer<Result>()
  loop.post { answer.give(action()) }
  return answer.wait()
}

/// One value handed from a loop to the thread that waits for it.
final class Answer<Value: Sendable>: Sendable {
  private let value = Mutex<Value?>(nil)
  private let given: LoopBox<UnsafeMutablePointer<sem_t>>

  init() {
    let semaphore = UnsafeMutablePointer<sem_t>.allocate(capacity: 1)
    sem_init(semaphore, 0, 0)
    given = LoopBox(semaphore)
  }
  deinit {
    sem_destroy(given.value)
    given.value.deallocate()
  }

  func give(_ new: Value) {
    value.withLock { $0 = new }
    sem_post(given.value)
  }

  func wait() -> Value {
    while sem_wait(given.value) != 0 {}
    guard let value = value.withLock({ $0 }) else { preconditionFailure("given before it is posted") }
    return value
  }
}

/// Lets a test move a value between threads that take turns.
struct LoopBox<Value>: @unchecked Sendable {
  let value: Value
  init(_ value: Value) { self.value = value }
}

final class RecordingHandler: EventHandler {
  var seen: [Readiness] = []
  let action: (RecordingHandler) -> Void
  init(_ action: @escaping (RecordingHandler) -> Void = { _ in }) { self.action = action }
  func ready(_ readiness: Readiness) {
    seen.append(readiness)
    action(self)
  }
}

final class RecordingTimer: TimerHandler {
  var fired: [TimerToken] = []
  let action: (TimerToken) -> Void
  init(_ action: @escaping (TimerToken) -> Void = { _ in }) { self.action = action }
  func timerFired(_ token: TimerToken) {
    fired.append(token)
    action(token)
  }
}
