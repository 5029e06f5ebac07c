import MeshConfig
import Primitives

/// Gives the values of operators in header values; appends nothing for what there is not.
public protocol HeaderValues {
  func append(_ command: HeaderCommand, to out: inout [UInt8])
}

extension HeaderOperations {
  /// These operations with every value filled in. A value that comes out empty leaves its field alone (Envoy,
  /// `keep_empty_value`).
  public func filled(by values: some HeaderValues) -> HeaderOperations {
    func fill(_ fields: [Field]) -> [Field] {
      fields.compactMap { field in
        guard let format = field.format else { return field }
        let value = format.value(values)
        return value.isEmpty ? nil : Field(name: field.name, value: value)
      }
    }
    return HeaderOperations(remove: remove, set: fill(set), add: fill(add))
  }
}

extension HeaderFormat {
  func value(_ values: some HeaderValues) -> [UInt8] {
    var out: [UInt8] = []
    for part in parts {
      switch part {
      case .text(let text): out += text
      case .command(let command, let max):
        let start = out.count
        values.append(command, to: &out)
        if let max, out.count > start + max { out.removeSubrange((start + max)...) }
      }
      guard out.count <= TrafficLimits.headerValueBytesMax else { return [] }
    }
    return out.filter { $0 >= 0x20 && $0 != 0x7F || $0 == 0x09 }
  }
}

extension TimePattern {
  /// Appends a moment in UTC. Without a pattern: `2026-01-31T12:00:00.123Z`.
  public static func append(_ millisecondsSince1970: UInt64, _ pattern: String?, to out: inout [UInt8]) {
    let time = CivilTime(millisecondsSince1970)
    var text: [UInt8] = []
    forEach(pattern ?? "%Y-%m-%dT%H:%M:%E3SZ") {
      text.append($0)
    } directive: {
      text += time.text($0).utf8
    }
    out += text
  }

  private struct CivilTime {
    let milliseconds: UInt64
    var seconds: UInt64 { milliseconds / 1000 }
    let date: (year: Int, month: Int, day: Int)

    init(_ milliseconds: UInt64) {
      self.milliseconds = milliseconds
      // Days to a date by the Gregorian calendar, counted from March (Hinnant, "chrono-compatible low-level date algorithms").
      let days = Int(milliseconds / 86_400_000) + 719_468
      let era = days / 146_097
      let dayOfEra = days % 146_097
      let yearOfEra = (dayOfEra - dayOfEra / 1460 + dayOfEra / 36_524 - dayOfEra / 146_096) / 365
      let dayOfYear = dayOfEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
      let month = (5 * dayOfYear + 2) / 153
      let civilMonth = month < 10 ? month + 3 : month - 9
      date = (yearOfEra + era * 400 + (civilMonth <= 2 ? 1 : 0), civilMonth, dayOfYear - (153 * month + 2) / 5 + 1)
    }

    func text(_ directive: String) -> String {
      let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60)
      let fraction = milliseconds % 1000
      switch directive {
      case "Y": return Self.padded(UInt64(date.year), 4)
      case "m": return Self.padded(UInt64(date.month), 2)
      case "d": return Self.padded(UInt64(date.day), 2)
      case "H": return Self.padded(hour, 2)
      case "M": return Self.padded(minute, 2)
      case "S": return Self.padded(second, 2)
      case "F": return "\(text("Y"))-\(text("m"))-\(text("d"))"
      case "T": return "\(text("H")):\(text("M")):\(text("S"))"
      case "E3S": return "\(text("S")).\(Self.padded(fraction, 3))"
      case "Z": return "UTC"
      case "z": return "+0000"
      case "s": return String(seconds)
      case "3f": return Self.padded(fraction, 3)
      case "6f": return Self.padded(fraction, 3) + "000"
      case "f", "9f": return Self.padded(fraction, 3) + "000000"
      case "%": return "%"
      default: return ""
      }
    }

    private static func padded(_ number: UInt64, _ digits: Int) -> String {
      let text = String(number)
      return String(repeating: "0", count: max(0, digits - text.utf8.count)) + text
    }
  }
}
