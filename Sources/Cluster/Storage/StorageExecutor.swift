import Dispatch
import Glibc
import Synchronization

/// One thread that does what blocks on the disk, in order. An fsync may take seconds; on Swift's pool it would take a
/// core from everything else, and a slow disk would look like a dead node.
public final class StorageExecutor: SerialExecutor {
  private enum Work: Sendable {
    case job(UnownedJob)
    case block(@Sendable () -> Void)
  }
  private struct Queue {
    var work: [Work] = []
    var isStopped = false
  }

  private let queue = Mutex(Queue())
  private let signal = DispatchSemaphore(value: 0)

  public init() {
    var thread = pthread_t()
    let context = Unmanaged.passRetained(self)
    let code = pthread_create(&thread, nil, { StorageExecutor.main($0) }, context.toOpaque())
    precondition(code == 0, "the system gives no thread for storage: \(String(cString: strerror(code)))")
    pthread_detach(thread)
  }

  public func enqueue(_ job: consuming ExecutorJob) { add(.job(UnownedJob(job))) }

  /// Runs `block` on the thread, after everything handed over before.
  public func run(_ block: @escaping @Sendable () -> Void) { add(.block(block)) }

  /// Ends the thread once everything handed over before is done; nothing may be handed over after.
  public func stop() {
    queue.withLock { $0.isStopped = true }
    signal.signal()
  }

  private func add(_ work: Work) {
    queue.withLock { $0.work.append(work) }
    signal.signal()
  }

  private static func main(_ context: UnsafeMutableRawPointer?) -> UnsafeMutableRawPointer? {
    guard let context else { return nil }
    Unmanaged<StorageExecutor>.fromOpaque(context).takeRetainedValue().loop()
    return nil
  }

  private func loop() {
    while true {
      signal.wait()
      let (work, isStopped) = queue.withLock { queue in
        defer { queue.work = [] }
        return (queue.work, queue.isStopped)
      }
      for item in work {
        switch item {
        case .job(let job): job.runSynchronously(on: asUnownedSerialExecutor())
        case .block(let block): block()
        }
      }
      if isStopped && work.isEmpty { return }
    }
  }
}
