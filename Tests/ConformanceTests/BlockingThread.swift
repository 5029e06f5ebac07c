import Dispatch
import Glibc
import Synchronization

/// The one thread that drives the mesh under test: it may block, and the processes it starts end when it does.
@globalActor
actor BlockingThread {
  static let shared = BlockingThread()
  private static let executor = ThreadExecutor()
  nonisolated var unownedExecutor: UnownedSerialExecutor { Self.executor.asUnownedSerialExecutor() }
}

private final class ThreadExecutor: SerialExecutor {
  private let jobs = Mutex<[UnownedJob]>([])
  private let signal = DispatchSemaphore(value: 0)

  init() {
    var thread = pthread_t()
    let context = Unmanaged.passRetained(self).toOpaque()
    let code = pthread_create(&thread, nil, { ThreadExecutor.main($0) }, context)
    precondition(code == 0, "the system gives no thread")
    pthread_detach(thread)
  }

  func enqueue(_ job: consuming ExecutorJob) {
    let job = UnownedJob(job)
    jobs.withLock { $0.append(job) }
    signal.signal()
  }

  private static func main(_ context: UnsafeMutableRawPointer?) -> UnsafeMutableRawPointer? {
    guard let context else { return nil }
    Unmanaged<ThreadExecutor>.fromOpaque(context).takeRetainedValue().run()
  }

  private func run() -> Never {
    while true {
      signal.wait()
      let next = jobs.withLock { $0.isEmpty ? nil : $0.removeFirst() }
      next?.runSynchronously(on: asUnownedSerialExecutor())
    }
  }
}
