import CLinux
import Glibc
import Synchronization

/// A thread for blocking work that the demo starts and joins.
final class BackgroundThread: Sendable {
  private final class Work: Sendable {
    let body: @Sendable () -> Void
    init(_ body: @escaping @Sendable () -> Void) { self.body = body }
  }
  private let thread: Mutex<pthread_t?>

  init(_ body: @escaping @Sendable () -> Void) {
    let work = Unmanaged.passRetained(Work(body))
    var created = pthread_t()
    let code = pthread_create(
      &created, nil,
      { raw in
        if let raw { Unmanaged<Work>.fromOpaque(raw).takeRetainedValue().body() }
        return nil
      }, work.toOpaque())
    if code != 0 { work.release() }
    thread = Mutex(code == 0 ? created : nil)
  }

  /// Waits until the body has returned.
  func join() {
    let ending = thread.withLock { thread in
      defer { thread = nil }
      return thread
    }
    if let ending { pthread_join(ending, nil) }
  }
}

/// Blocks the calling thread.
func pause(_ duration: Duration) {
  var request = timespec()
  let nanoseconds = max(0, duration.components.seconds * 1_000_000_000 + duration.components.attoseconds / 1_000_000_000)
  request.tv_sec = Int(nanoseconds / 1_000_000_000)
  request.tv_nsec = Int(nanoseconds % 1_000_000_000)
  nanosleep(&request, nil)
}
