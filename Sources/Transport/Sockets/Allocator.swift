import CLinux

/// The C library's allocator, set for a process whose heap has short peaks (a configuration is compiled) and long quiet times.
///
/// Left alone, it keeps an arena for each thread, eight for each core, and what a peak leaves free in them stays resident
/// (mallopt(3), malloc_trim(3)).
public enum Allocator {
  /// Call before there are threads. Workers hardly allocate while they serve, so they need no arena each.
  public static func limitArenas(workers: Int) { _ = mallopt(M_ARENA_MAX, Int32(clamping: workers + 1)) }

  /// Gives free pages back to the system when they are worth it; the bytes that were free before.
  @discardableResult
  public static func returnFreePages() -> Int {
    let free = mallinfo2().fordblks
    if free >= TransportLimits.freeHeapBytesKept { malloc_trim(0) }
    return Int(clamping: free)
  }
}
