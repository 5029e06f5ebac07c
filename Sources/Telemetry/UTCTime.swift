/// UTC timestamps of RFC 3339 with milliseconds.
public enum UTCTime {
  /// The last millisecond of 9999.
  static let last: UInt64 = 253_402_300_799_999

  /// Appends `2026-08-22T10:00:00.123Z` for milliseconds since 1970-01-01 UTC. Years beyond 9999 are shown as 9999-12-31.
  public static func append(milliseconds: UInt64, to out: inout [UInt8]) {
    let time = min(milliseconds, last)
    let (year, month, day) = civil(daysSince1970: Int(time / 86_400_000))
    let inDay = Int(time % 86_400_000)
    appendPadded(year, digits: 4, to: &out)
    out.append(0x2D)
    appendPadded(month, digits: 2, to: &out)
    out.append(0x2D)
    appendPadded(day, digits: 2, to: &out)
    out.append(0x54)
    appendPadded(inDay / 3_600_000, digits: 2, to: &out)
    out.append(0x3A)
    appendPadded(inDay / 60_000 % 60, digits: 2, to: &out)
    out.append(0x3A)
    appendPadded(inDay / 1000 % 60, digits: 2, to: &out)
    out.append(0x2E)
    appendPadded(inDay % 1000, digits: 3, to: &out)
    out.append(0x5A)
  }

  /// The proleptic Gregorian date of a day number (Hinnant, "chrono-compatible low-level date algorithms").
  static func civil(daysSince1970: Int) -> (year: Int, month: Int, day: Int) {
    let shifted = daysSince1970 + 719_468
    let era = shifted / 146_097
    let dayOfEra = shifted % 146_097
    let yearOfEra = (dayOfEra - dayOfEra / 1460 + dayOfEra / 36_524 - dayOfEra / 146_096) / 365
    let dayOfYear = dayOfEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
    let monthFromMarch = (5 * dayOfYear + 2) / 153
    let day = dayOfYear - (153 * monthFromMarch + 2) / 5 + 1
    let month = monthFromMarch < 10 ? monthFromMarch + 3 : monthFromMarch - 9
    return (yearOfEra + era * 400 + (month <= 2 ? 1 : 0), month, day)
  }

  /// The day number of a year's first of January.
  static func days(since1970 year: Int) -> Int {
    let before = year - 1
    return 365 * (year - 1970) + before / 4 - before / 100 + before / 400 - 477
  }

  private static func appendPadded(_ value: Int, digits: Int, to out: inout [UInt8]) {
    var unit = 1
    for _ in 1..<digits { unit *= 10 }
    while unit > 0 {
      out.append(0x30 + UInt8(truncatingIfNeeded: value / unit % 10))
      unit /= 10
    }
  }
}
