import Glibc

/// What this process uses of the memory it may use.
enum MemoryGauge {
  /// Resident bytes.
  static func residentBytes() -> Int {
    let words = text(of: "/proc/self/statm").split(separator: " ")
    return words.count > 1 ? (Int(words[1]) ?? 0) * sysconf(Int32(_SC_PAGESIZE)) : 0
  }

  /// The smallest of the control groups' limits and the host's memory.
  static func limit() -> Int {
    var limit = sysconf(Int32(_SC_PHYS_PAGES)) * sysconf(Int32(_SC_PAGESIZE))
    // cgroup v2: `0::/path`; every group on the way up limits.
    let entry = text(of: "/proc/self/cgroup").split(separator: "\n").first { $0.hasPrefix("0::") }
    var path = entry.map { String($0.dropFirst(3)) } ?? "/"
    while true {
      let value = text(of: "/sys/fs/cgroup\(path == "/" ? "" : path)/memory.max").split(separator: "\n").first
      if let bytes = value.flatMap({ Int($0) }), bytes > 0 { limit = min(limit, bytes) }
      guard path != "/", let slash = path.lastIndex(of: "/") else { return limit }
      path = slash == path.startIndex ? "/" : String(path[..<slash])
    }
  }

  private static func text(of path: String) -> String {
    let descriptor = open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { return "" }
    defer { close(descriptor) }
    var bytes = [UInt8](repeating: 0, count: 4096)
    let count = read(descriptor, &bytes, bytes.count)
    return String(decoding: bytes.prefix(max(0, count)), as: UTF8.self)
  }
}
