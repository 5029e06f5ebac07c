import Glibc

/// The value of `date`, in the form of RFC 9110 5.6.7, made once a second.
struct HTTPDate {
  private static let days = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"]
  private static let months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]

  private var second: time_t = -1
  private var text: [UInt8] = []

  var now: [UInt8] {
    mutating get {
      let current = time(nil)
      if current != second {
        second = current
        text = Self.text(unixSeconds: current)
      }
      return text
    }
  }

  static func text(unixSeconds: time_t) -> [UInt8] {
    var (seconds, parts) = (unixSeconds, tm())
    gmtime_r(&seconds, &parts)
    func two(_ number: Int32) -> String { number < 10 ? "0\(number)" : "\(number)" }
    let day = days[min(max(0, Int(parts.tm_wday)), 6)]
    let month = months[min(max(0, Int(parts.tm_mon)), 11)]
    let time = "\(two(parts.tm_hour)):\(two(parts.tm_min)):\(two(parts.tm_sec))"
    return Array("\(day), \(two(parts.tm_mday)) \(month) \(Int(parts.tm_year) + 1900) \(time) GMT".utf8)
  }
}
