import Primitives

/// A pattern of `START_TIME(…)`: directives of `strftime` in the C locale, and Envoy's parts of a second.
public struct TimePattern: Hashable, Sendable {
  private enum Piece: Hashable, Sendable {
    case text([UInt8])
    case directive(UInt8)
    /// So many digits of the second's fraction; `%ES` has the seconds before it.
    case fraction(digits: Int, hasSeconds: Bool)
    /// `%Ez`: an offset with a colon.
    case offset
  }
  private let pieces: [Piece]

  /// Every plain directive but `%n`: a line feed has no place in a header or in a line.
  private static let directives = Set("aAbBcCdDeFgGhHIjklmMpPrRsStTuUVwWxXyYzZ%".utf8)
  /// Directives that another locale would write otherwise.
  private static let alternatives = Set("cCxXyYdeHImMSuUVwW".utf8)

  /// nil when a directive is not known, or there is nothing.
  public init?(_ written: String) {
    var pieces: [Piece] = []
    var text: [UInt8] = []
    var rest = Array(written.utf8)[...]
    while let byte = rest.popFirst() {
      guard byte == 0x25 else {
        text.append(byte)
        continue
      }
      if !text.isEmpty { pieces.append(.text(text)) }
      text = []
      guard let piece = Self.piece(&rest) else { return nil }
      pieces.append(piece)
    }
    if !text.isEmpty { pieces.append(.text(text)) }
    guard !pieces.isEmpty, written.utf8.allSatisfy({ $0 >= 0x20 && $0 != 0x7F }) else { return nil }
    self.pieces = pieces
  }

  /// What stands after a `%`.
  private static func piece(_ rest: inout ArraySlice<UInt8>) -> Piece? {
    guard let first = rest.popFirst() else { return nil }
    switch first {
    case 0x66: return .fraction(digits: 9, hasSeconds: false)
    case 0x31...0x39: return rest.popFirst() == 0x66 ? .fraction(digits: Int(first - 0x30), hasSeconds: false) : nil
    case 0x45: return extended(&rest)
    case 0x4F: return rest.popFirst().flatMap { alternatives.contains($0) ? .directive($0) : nil }
    default: return directives.contains(first) ? .directive(first) : nil
    }
  }

  /// `%E3S`, `%E*f`, `%E4Y`, `%Ez` and the like (Abseil, `FormatTime`).
  private static func extended(_ rest: inout ArraySlice<UInt8>) -> Piece? {
    guard let first = rest.popFirst() else { return nil }
    switch first {
    case 0x7A: return .offset
    case 0x2A, 0x30...0x39:
      guard let unit = rest.popFirst() else { return nil }
      if unit == 0x59, first == 0x34 { return .directive(unit) }
      if unit == 0x7A, first == 0x2A { return .offset }
      guard unit == 0x53 || unit == 0x66 else { return nil }
      return .fraction(digits: first == 0x2A ? 3 : min(9, Int(first) - 0x30), hasSeconds: unit == 0x53)
    default: return alternatives.contains(first) ? .directive(first) : nil
    }
  }

  /// Appends a moment as it is in `zone`. Milliseconds are all that is known of a second.
  public func append(_ millisecondsSince1970: UInt64, in zone: TimeZoneOffset = .utc, to out: inout [UInt8]) {
    let time = CivilTime(millisecondsSince1970, zone)
    for piece in pieces {
      switch piece {
      case .text(let text): out += text
      case .directive(let directive): out += time.text(directive).utf8
      case .fraction(let digits, let hasSeconds):
        if hasSeconds { out += CivilTime.padded(time.second, 2).utf8 }
        if hasSeconds, digits > 0 { out.append(0x2E) }
        out += (CivilTime.padded(time.millisecond, 3) + "000000").utf8.prefix(digits)
      case .offset: out += zone.text(hasColon: true).utf8
      }
    }
  }

  private static let local = TimePattern("%Y-%m-%dT%H:%M:%E3S%z")

  /// Appends a moment by a pattern or else as Envoy writes one: `2026-01-31T12:00:00.123Z`, or with the offset of `zone`.
  public static func append(
    _ millisecondsSince1970: UInt64, _ pattern: TimePattern?, in zone: TimeZoneOffset?, to out: inout [UInt8]
  ) {
    if let pattern = pattern ?? (zone == nil ? nil : local) {
      pattern.append(millisecondsSince1970, in: zone ?? .utc, to: &out)
    } else {
      UTCTime.append(milliseconds: millisecondsSince1970, to: &out)
    }
  }
}

/// How far a place's clocks are from UTC.
public struct TimeZoneOffset: Hashable, Sendable {
  /// Seconds east of UTC.
  public let seconds: Int
  public let name: String
  public static let utc = TimeZoneOffset(seconds: 0, name: "UTC")

  public init(seconds: Int, name: String) {
    self.seconds = min(86_400, max(-86_400, seconds))
    self.name = name
  }

  func text(hasColon: Bool) -> String {
    let minutes = abs(seconds) / 60
    return (seconds < 0 ? "-" : "+") + CivilTime.padded(minutes / 60, 2) + (hasColon ? ":" : "")
      + CivilTime.padded(minutes % 60, 2)
  }
}

/// A moment by the Gregorian calendar.
private struct CivilTime {
  let date: (year: Int, month: Int, day: Int)
  let hour, minute, second, millisecond: Int
  /// From 0, Sunday.
  let weekday: Int
  /// From 0, the first of January.
  let dayOfYear: Int
  let secondsSince1970: UInt64
  let zone: TimeZoneOffset

  init(_ milliseconds: UInt64, _ zone: TimeZoneOffset) {
    self.zone = zone
    let known = min(milliseconds, UTCTime.last)
    secondsSince1970 = known / 1000
    // Before 1970 there is nothing to be told.
    let seconds = max(0, Int(known / 1000) + zone.seconds)
    let days = seconds / 86_400
    date = UTCTime.civil(daysSince1970: days)
    (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60)
    millisecond = Int(known % 1000)
    weekday = (days + 4) % 7
    dayOfYear = days - UTCTime.days(since1970: date.year)
  }

  static func padded(_ number: Int, _ digits: Int, with fill: String = "0") -> String {
    let text = String(number)
    return String(repeating: fill, count: max(0, digits - text.utf8.count)) + text
  }

  private static let weekdays = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"]
  private static let months = [
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November", "December",
  ]

  private func joined(_ directives: String) -> String {
    var text = ""
    for byte in directives.utf8 {
      text += UInt8(ascii: "A") <= byte && byte <= UInt8(ascii: "z") ? self.text(byte) : String(Unicode.Scalar(byte))
    }
    return text
  }

  func text(_ directive: UInt8) -> String {
    switch Unicode.Scalar(directive) {
    case "a": String(Self.weekdays[weekday].prefix(3))
    case "A": Self.weekdays[weekday]
    case "b", "h": String(Self.months[date.month - 1].prefix(3))
    case "B": Self.months[date.month - 1]
    case "c": joined("a b e T Y")
    case "C": Self.padded(date.year / 100, 2)
    case "d": Self.padded(date.day, 2)
    case "D", "x": joined("m/d/y")
    case "e": Self.padded(date.day, 2, with: " ")
    case "F": joined("Y-m-d")
    case "g": Self.padded(isoWeek.year % 100, 2)
    case "G": Self.padded(isoWeek.year, 4)
    case "H": Self.padded(hour, 2)
    case "I": Self.padded((hour + 11) % 12 + 1, 2)
    case "j": Self.padded(dayOfYear + 1, 3)
    case "k": Self.padded(hour, 2, with: " ")
    case "l": Self.padded((hour + 11) % 12 + 1, 2, with: " ")
    case "m": Self.padded(date.month, 2)
    case "M": Self.padded(minute, 2)
    case "p": hour < 12 ? "AM" : "PM"
    case "P": hour < 12 ? "am" : "pm"
    case "r": joined("I:M:S p")
    case "R": joined("H:M")
    case "s": String(secondsSince1970)
    case "S": Self.padded(second, 2)
    case "t": "\t"
    case "T", "X": joined("H:M:S")
    case "u": String((weekday + 6) % 7 + 1)
    case "U": Self.padded((dayOfYear + 7 - weekday) / 7, 2)
    case "V": Self.padded(isoWeek.week, 2)
    case "w": String(weekday)
    case "W": Self.padded((dayOfYear + 7 - (weekday + 6) % 7) / 7, 2)
    case "y": Self.padded(date.year % 100, 2)
    case "Y": Self.padded(date.year, 4)
    case "z": zone.text(hasColon: false)
    case "Z": zone.name
    case "%": "%"
    default: ""
    }
  }

  /// The week of ISO 8601, and the year it is of: that of its Thursday.
  private var isoWeek: (year: Int, week: Int) {
    let thursday = dayOfYear + 3 - (weekday + 6) % 7
    let length = UTCTime.days(since1970: date.year + 1) - UTCTime.days(since1970: date.year)
    if thursday < 0 {
      let before = UTCTime.days(since1970: date.year) - UTCTime.days(since1970: date.year - 1)
      return (date.year - 1, (thursday + before) / 7 + 1)
    }
    return thursday >= length ? (date.year + 1, 1) : (date.year, thursday / 7 + 1)
  }
}
