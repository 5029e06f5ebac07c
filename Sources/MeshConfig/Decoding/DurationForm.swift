import Primitives

/// Durations as Istio writes them (Go's `ParseDuration`): `7s`, `1.5s`, `250ms`, `1h30m`.
enum DurationForm {
  private static let units: [(suffix: String, nanoseconds: Int64)] = [
    ("ns", 1), ("us", 1_000), ("µs", 1_000), ("ms", 1_000_000), ("s", 1_000_000_000), ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
  ]

  /// Nanosecond grain; nil when malformed or above 292 years.
  static func parse(_ text: String) -> Duration? {
    var rest = text.utf8[...]
    guard rest.count <= 40, !rest.isEmpty else { return nil }
    if text == "0" { return .zero }
    var total: Int64 = 0
    while !rest.isEmpty {
      guard let part = component(&rest) else { return nil }
      let (sum, overflow) = total.addingReportingOverflow(part)
      if overflow { return nil }
      total = sum
    }
    return .nanoseconds(total)
  }

  private static func component(_ rest: inout Substring.UTF8View) -> Int64? {
    let whole = rest.prefix(while: ASCII.isDigit)
    rest = rest.dropFirst(whole.count)
    var fraction: Substring.UTF8View = rest.prefix(0)
    if rest.first == 0x2E {
      fraction = rest.dropFirst().prefix(while: ASCII.isDigit)
      rest = rest.dropFirst(1 + fraction.count)
    }
    guard whole.count + fraction.count > 0 else { return nil }
    let letters = rest.prefix { !ASCII.isDigit($0) && $0 != 0x2E }
    rest = rest.dropFirst(letters.count)
    let unit = Substring(letters)
    guard let nanoseconds = units.first(where: { $0.suffix == unit })?.nanoseconds else { return nil }
    guard let count = whole.isEmpty ? 0 : parseDecimal(whole, max: UInt64(Int64.max)) else { return nil }
    let (product, overflow) = Int64(count).multipliedReportingOverflow(by: nanoseconds)
    if overflow { return nil }
    let (sum, carry) = product.addingReportingOverflow(fractionOf(nanoseconds, fraction))
    return carry ? nil : sum
  }

  /// `0.digits` of a unit. Units have at most 14 digits, so later digits are below a nanosecond and dropped.
  private static func fractionOf(_ unit: Int64, _ digits: Substring.UTF8View) -> Int64 {
    var numerator: Int64 = 0
    var denominator: Int64 = 1
    for digit in digits.prefix(15) {
      numerator = numerator * 10 + Int64(digit - 0x30)
      denominator *= 10
    }
    let (high, low) = unit.multipliedFullWidth(by: numerator)
    return denominator.dividingFullWidth((high, low)).quotient
  }

  /// Text that `parse` reads back: whole seconds, else milliseconds, else nanoseconds.
  static func text(_ duration: Duration) -> String {
    let nanoseconds = duration.nanosecondsClamped
    if nanoseconds % 1_000_000_000 == 0 { return "\(nanoseconds / 1_000_000_000)s" }
    if nanoseconds % 1_000_000 == 0 { return "\(nanoseconds / 1_000_000)ms" }
    return "\(nanoseconds)ns"
  }
}
