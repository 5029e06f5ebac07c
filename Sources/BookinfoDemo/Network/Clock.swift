import CLinux
import Glibc
import Primitives

extension Instant {
  /// The monotonic clock of this process.
  static func now() -> Instant {
    Instant(nanoseconds: cl_monotonic_nanoseconds())
  }
}

/// The wall clock as an HTTP date (RFC 9110 5.6.7), such as `Sun, 06 Nov 1994 08:49:37 GMT`.
func httpDate(_ seconds: Int) -> String {
  var seconds = seconds
  var parts = tm()
  gmtime_r(&seconds, &parts)
  func twoDigits(_ value: Int32) -> String { value < 10 ? "0\(value)" : "\(value)" }
  let days = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"]
  let months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
  let date = "\(days[Int(parts.tm_wday)]), \(twoDigits(parts.tm_mday)) \(months[Int(parts.tm_mon)]) \(1900 + parts.tm_year)"
  return "\(date) \(twoDigits(parts.tm_hour)):\(twoDigits(parts.tm_min)):\(twoDigits(parts.tm_sec)) GMT"
}
