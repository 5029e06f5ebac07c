import CLinux
import Glibc
import Primitives
import Synchronization

/// One thread that waits for sockets, timers and posted jobs, and runs whatever concerns them.
///
/// The loop is the isolation: handlers, registrations and timers belong to the loop's thread and need no lock. Only
/// `post`, `enqueue`, `start`, `stop`, `join` and `isOnLoop` may be called from elsewhere. An actor may use a loop as
/// its executor. A turn is: wait once, sockets, timers, jobs, then the handlers that asked for the end of the turn.
///
/// Unchecked because confinement to the thread is asserted, not expressible: what other threads touch is in `inbox`
/// and in atomics.
public final class EventLoop: SerialExecutor, @unchecked Sendable {
  public let name: String
  /// The monotonic time at which this turn began. On the loop only.
  public private(set) var now: Instant

  private let epoll: Int32
  private let wakeup: Int32
  private let inbox = Mutex(Inbox())
  /// The loop's thread, or 0 while none runs.
  private let thread = Atomic<UInt>(0)
  private let joinable = Mutex<pthread_t?>(nil)

  // Confined to the loop's thread.
  private var stopping = false
  private var jobs = ContiguousArray<Job>()
  private var nextJob = 0
  private var slots = SlotTable()
  private var timers = TimerWheel()
  private var turnEnds = ContiguousArray<any TurnHandler>()
  private var turnEndsRunning = ContiguousArray<any TurnHandler>()
  private let events: UnsafeMutablePointer<cl_epoll_event>

  private enum Job {
    case closure(@Sendable () -> Void)
    case executor(UnownedJob)
  }

  private struct Inbox {
    var jobs = ContiguousArray<Job>()
    /// The loop waits, or is about to wait, in the kernel: the next post has to wake it.
    var waiting = false
  }

  private static let wakeupData = UInt64.max

  /// Creates the loop's descriptors. `name` becomes the thread's name (15 bytes are kept).
  public init(name: String) throws(SystemError) {
    self.name = name
    now = Self.monotonicNow()
    epoll = try SystemError.check(cl_epoll_create(), "create event poll")
    do {
      wakeup = try SystemError.check(cl_eventfd(), "create wake-up event")
    } catch {
      close(epoll)
      throw error
    }
    events = .allocate(capacity: TransportLimits.loopEventsPerTurn)
    let added = cl_epoll_add(epoll, wakeup, CL_EPOLLIN | CL_EPOLLET, Self.wakeupData)
    if added < 0 { throw SystemError("watch wake-up event", code: -added) }
  }

  deinit {
    events.deallocate()
    close(wakeup)
    close(epoll)
  }

  /// The monotonic clock itself; `now` is cheaper and the same for a whole turn.
  public static func monotonicNow() -> Instant { Instant(nanoseconds: cl_monotonic_nanoseconds()) }

  // MARK: Life

  /// Starts the thread. Once only.
  public func start() throws(SystemError) {
    var created = pthread_t()
    let loop = Unmanaged.passRetained(self)
    let code = pthread_create(
      &created, nil,
      { raw in
        guard let raw else { return nil }
        Unmanaged<EventLoop>.fromOpaque(raw).takeRetainedValue().run()
        return nil
      }, loop.toOpaque())
    guard code == 0 else {
      loop.release()
      throw SystemError("start thread \(name)", code: code)
    }
    joinable.withLock { $0 = created }
  }

  /// Asks the loop to end after the jobs posted so far. Jobs posted later are not run.
  public func stop() {
    post { self.stopping = true }
  }

  /// Waits until the thread has ended. Not on the loop itself.
  public func join() {
    let ending = joinable.withLock { thread in
      defer { thread = nil }
      return thread
    }
    if let ending { pthread_join(ending, nil) }
  }

  /// Whether the caller runs on this loop's thread.
  public var isOnLoop: Bool { thread.load(ordering: .acquiring) == UInt(pthread_self()) }

  // MARK: Jobs

  /// Runs `job` on the loop, after the jobs posted before. From any thread.
  public func post(_ job: @escaping @Sendable () -> Void) { submit(.closure(job)) }

  public func enqueue(_ job: consuming ExecutorJob) { submit(.executor(UnownedJob(job))) }

  public func checkIsolated() { precondition(isOnLoop, "not on loop \(name)") }

  public func isIsolatingCurrentContext() -> Bool? { isOnLoop }

  private func submit(_ job: Job) {
    let wake = inbox.withLock { inbox in
      inbox.jobs.append(job)
      defer { inbox.waiting = false }
      return inbox.waiting
    }
    if wake { wakeUp() }
  }

  private func wakeUp() {
    // Edge-triggered, so the counter is never read: every write is a new edge. It would take 2^64 to block.
    var one: UInt64 = 1
    _ = write(wakeup, &one, MemoryLayout<UInt64>.size)
  }

  /// Runs the handler once when this turn ends, for example to write what the turn has gathered. On the loop only.
  public func atEndOfTurn(_ handler: any TurnHandler) {
    assert(isOnLoop)
    turnEnds.append(handler)
  }

  // MARK: Descriptors

  /// Watches a nonblocking descriptor, edge-triggered, for both directions until `deregister`.
  ///
  /// The handler is kept until then; it has to read and write until `wouldBlock`. The descriptor must be deregistered
  /// before it is closed. On the loop only.
  public func register(_ descriptor: Int32, _ handler: any EventHandler) throws(SystemError) -> Registration {
    assert(isOnLoop)
    let registration = slots.insert(handler, descriptor: descriptor)
    let interest = CL_EPOLLIN | CL_EPOLLOUT | CL_EPOLLRDHUP | CL_EPOLLET
    let code = cl_epoll_add(epoll, descriptor, interest, registration.data)
    guard code == 0 else {
      _ = slots.remove(registration)
      throw SystemError("watch descriptor \(descriptor)", code: -code)
    }
    return registration
  }

  /// Ends a registration: its handler is not called again, even for events of this turn. A stale one is ignored.
  public func deregister(_ registration: Registration) {
    assert(isOnLoop)
    guard let descriptor = slots.remove(registration) else { return }
    _ = cl_epoll_delete(epoll, descriptor)
  }

  // MARK: Timers

  /// Calls the handler once at `deadline`, up to two milliseconds late and never early. On the loop only.
  public func schedule(at deadline: Instant, _ handler: any TimerHandler) -> TimerToken {
    assert(isOnLoop)
    return timers.insert(handler, at: deadline, now: now)
  }

  /// Calls the handler once when `delay` from the start of this turn has passed.
  public func schedule(after delay: Duration, _ handler: any TimerHandler) -> TimerToken {
    schedule(at: now + delay, handler)
  }

  /// As above for a closure, which is allocated: for paths that are not hot.
  @discardableResult
  public func schedule(after delay: Duration, _ action: @escaping () -> Void) -> TimerToken {
    schedule(after: delay, ClosureTimer(action))
  }

  /// Ends a timer. The token of one that has fired or was cancelled is ignored.
  public func cancel(_ token: TimerToken) {
    assert(isOnLoop)
    timers.cancel(token)
  }

  // MARK: The turn

  private func run() {
    thread.store(UInt(pthread_self()), ordering: .releasing)
    cl_set_thread_name(name)
    while !stopping || hasJobs {
      waitForEvents()
      fireTimers()
      runJobs()
      runTurnEnds()
    }
    slots = SlotTable()
    timers = TimerWheel()
    turnEnds = []
    thread.store(0, ordering: .releasing)
  }

  private var hasJobs: Bool { nextJob < jobs.count || inbox.withLock { !$0.jobs.isEmpty } }

  private func waitForEvents() {
    let count = cl_epoll_wait(epoll, events, Int32(TransportLimits.loopEventsPerTurn), waitMilliseconds())
    now = Self.monotonicNow()
    guard count > 0 else {
      precondition(count == 0 || count == -EINTR, "event poll of loop \(name) failed with errno \(-count)")
      return
    }
    for index in 0..<Int(count) {
      let event = events[index]
      guard event.data != Self.wakeupData, let handler = slots.handler(for: event.data) else { continue }
      handler.ready(Readiness(epoll: event.events))
    }
  }

  /// How long to wait: not at all when there is work, else until the next timer (−1: for ever).
  private func waitMilliseconds() -> Int32 {
    guard nextJob >= jobs.count, turnEnds.isEmpty else { return 0 }
    let idle = inbox.withLock { inbox in
      inbox.waiting = inbox.jobs.isEmpty
      return inbox.waiting
    }
    guard idle else { return 0 }
    guard let deadline = timers.nextDeadline else { return -1 }
    let rest = (deadline - Self.monotonicNow()).nanosecondsClamped
    return rest <= 0 ? 0 : Int32(clamping: (rest + 999_999) / 1_000_000)
  }

  private func fireTimers() {
    while let (handler, token) = timers.popExpired(at: now) { handler.timerFired(token) }
  }

  private func runJobs() {
    if nextJob >= jobs.count {
      inbox.withLock { inbox in
        // Until here a post wakes the loop in vain; the lock is taken twice a turn, not three times.
        inbox.waiting = false
        if !inbox.jobs.isEmpty { swap(&inbox.jobs, &jobs) }
      }
    }
    guard !jobs.isEmpty else { return }
    let end = min(jobs.count, nextJob + TransportLimits.loopJobsPerTurn)
    while nextJob < end {
      let job = jobs[nextJob]
      nextJob += 1
      switch job {
      case .closure(let action): action()
      case .executor(let job): job.runSynchronously(on: asUnownedSerialExecutor())
      }
    }
    if nextJob == jobs.count {
      jobs.removeAll(keepingCapacity: true)
      nextJob = 0
    }
  }

  private func runTurnEnds() {
    guard !turnEnds.isEmpty else { return }
    swap(&turnEnds, &turnEndsRunning)
    for index in turnEndsRunning.indices { turnEndsRunning[index].turnEnded() }
    turnEndsRunning.removeAll(keepingCapacity: true)
  }
}
