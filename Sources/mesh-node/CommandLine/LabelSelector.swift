/// Labels as kubectl's `-l` selects them: `a=b,c!=d,e,!f,g in (x,y),h notin (z)`.
struct LabelSelector {
  private enum Requirement {
    case isIn(String, Set<String>)
    case isNotIn(String, Set<String>)
    case exists(String)
    case isMissing(String)
  }
  private var requirements: [Requirement] = []

  init(_ text: String) throws(UsageError) {
    for part in Self.parts(text) { requirements.append(try Self.requirement(part)) }
    if requirements.isEmpty { throw UsageError("-l needs a selector, such as app=reviews") }
  }

  func matches(_ labels: [String: String]) -> Bool {
    requirements.allSatisfy { requirement in
      switch requirement {
      case .isIn(let key, let values): labels[key].map(values.contains) ?? false
      case .isNotIn(let key, let values): labels[key].map { !values.contains($0) } ?? true
      case .exists(let key): labels[key] != nil
      case .isMissing(let key): labels[key] == nil
      }
    }
  }

  /// At commas that stand in no brackets.
  private static func parts(_ text: String) -> [String] {
    var parts: [String] = []
    var current = ""
    var depth = 0
    for character in text {
      if character == "(" { depth += 1 }
      if character == ")" { depth -= 1 }
      if character == ",", depth == 0 {
        parts.append(current)
        current = ""
      } else {
        current.append(character)
      }
    }
    return (parts + [current]).map(trimmed).filter { !$0.isEmpty }
  }

  private static func requirement(_ part: String) throws(UsageError) -> Requirement {
    for (word, isIn) in [(" notin ", false), (" in ", true)] {
      guard let range = part.firstRange(of: word) else { continue }
      let list = trimmed(String(part[range.upperBound...]))
      guard list.hasPrefix("("), list.hasSuffix(")") else { throw UsageError("'\(part)' needs values in brackets: (a,b)") }
      let values = Set(list.dropFirst().dropLast().split(separator: ",").map { trimmed(String($0)) })
      let key = trimmed(String(part[..<range.lowerBound]))
      return isIn ? .isIn(key, values) : .isNotIn(key, values)
    }
    for (sign, isIn) in [("!=", false), ("==", true), ("=", true)] {
      guard let range = part.firstRange(of: sign) else { continue }
      let key = trimmed(String(part[..<range.lowerBound]))
      let value = trimmed(String(part[range.upperBound...]))
      guard !key.isEmpty else { throw UsageError("'\(part)' names no label") }
      return isIn ? .isIn(key, [value]) : .isNotIn(key, [value])
    }
    return part.hasPrefix("!") ? .isMissing(trimmed(String(part.dropFirst()))) : .exists(part)
  }

  private static func trimmed(_ text: String) -> String {
    String(text.drop { $0 == " " }.reversed().drop { $0 == " " }.reversed())
  }
}
