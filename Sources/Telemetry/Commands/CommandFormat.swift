import Primitives

/// Text with operators that each request, response or log line fills in (Envoy, "Format strings").
public struct CommandFormat: Hashable, Sendable {
  public enum Part: Hashable, Sendable {
    case text([UInt8])
    /// `max`: bytes of the value that are kept.
    case command(CommandOperator, max: Int?)
  }
  public let parts: [Part]
  /// Operators that Envoy refuses as well. They stand for nothing.
  public let problems: [CommandProblem]
  /// Operators that are right, and for which nothing here stands.
  public let absent: [String]

  /// nil when a `%` stands alone: a literal one is written `%%`.
  public init?(_ value: String) {
    var parts: [Part] = []
    var problems: [CommandProblem] = []
    var absent: [String] = []
    var text: [UInt8] = []
    var rest = Array(value.utf8)[...]
    while let byte = rest.popFirst() {
      guard byte == 0x25 else {
        text.append(byte)
        continue
      }
      if rest.first == 0x25 {
        rest.removeFirst()
        text.append(0x25)
        continue
      }
      guard let written = Self.operatorText(&rest) else { return nil }
      if !text.isEmpty { parts.append(.text(text)) }
      text = []
      do throws(CommandProblem) {
        let bounded = try CommandOperator.parse(written)
        parts.append(.command(bounded.command, max: bounded.max))
        if bounded.command == .absent, !absent.contains(written) { absent.append(written) }
      } catch {
        parts.append(.command(.absent, max: nil))
        if !problems.contains(error) { problems.append(error) }
      }
    }
    if !text.isEmpty || parts.isEmpty { parts.append(.text(text)) }
    self.parts = parts
    self.problems = problems
    self.absent = absent
  }

  /// What stands up to the closing `%`; a `%` between brackets does not close.
  private static func operatorText(_ rest: inout ArraySlice<UInt8>) -> String? {
    var isBracketed = false
    for (index, byte) in zip(rest.indices, rest) {
      switch byte {
      case 0x28: isBracketed = true
      case 0x29: isBracketed = false
      case 0x25 where !isBracketed:
        defer { rest = rest[(index + 1)...] }
        return String(decoding: rest[..<index], as: UTF8.self)
      default: break
      }
    }
    return nil
  }

  /// The value where nothing has to be filled in.
  public var fixed: [UInt8]? {
    if case .text(let text) = parts.first, parts.count == 1 { text } else { nil }
  }
}

/// Why an operator is refused, as Envoy refuses it with all of the configuration around it.
public struct CommandProblem: Error, Hashable, Sendable, CustomStringConvertible {
  /// The operator as it is written, without its `%`.
  public let written: String
  public let reason: String
  public let hint: String?

  init(_ written: String, _ reason: String, hint: String? = nil) {
    self.written = String(written.prefix(80))
    self.reason = reason
    self.hint = hint
  }

  public var description: String { "'%\(written)%' \(reason)" }
}

extension CommandOperator {
  /// `NAME`, `NAME(argument)`, `NAME:length` or `NAME(argument):length`.
  static func parse(_ written: String) throws(CommandProblem) -> BoundedOperator {
    let name = String(written.prefix { $0 != "(" && $0 != ":" })
    var rest = written[name.endIndex...]
    var argument: String?
    if rest.first == "(" {
      guard let close = rest.firstIndex(of: ")") else { throw CommandProblem(written, "has no closing bracket") }
      argument = String(rest[rest.index(after: rest.startIndex)..<close])
      rest = rest[rest.index(after: close)...]
    }
    var max: Int?
    if !rest.isEmpty {
      guard rest.first == ":", let length = parseDecimal(rest.utf8.dropFirst(), max: UInt64(Int32.max)) else {
        throw CommandProblem(written, "ends in '\(rest.prefix(40))', where only :LENGTH, a number of bytes, may stand")
      }
      max = Int(length)
    }
    return try make(name, argument ?? "", max: max, written)
  }

  private static func make(
    _ name: String, _ argument: String, max: Int?, _ written: String
  ) throws(CommandProblem) -> BoundedOperator {
    if let command = plain[name] {
      guard argument.isEmpty, max == nil else {
        throw CommandProblem(written, "takes neither an argument nor a length", hint: "write '%\(name)%'")
      }
      return BoundedOperator(command: command, max: nil)
    }
    guard let row = rows[name] else { throw unknown(name, written) }
    if argument.isEmpty, row.argument == .required {
      throw CommandProblem(written, "needs an argument", hint: "write '%\(name)(…)%'")
    }
    guard max == nil || row.hasLength else { throw CommandProblem(written, "takes no length") }
    do throws(CommandArgumentError) {
      return BoundedOperator(command: try row.make(argument), max: max)
    } catch {
      throw CommandProblem(written, error.reason, hint: error.hint)
    }
  }

  private static func unknown(_ name: String, _ written: String) -> CommandProblem {
    let isName = !name.isEmpty && name.utf8.allSatisfy { ASCII.isLowerAlphanumeric(ASCII.lowercased($0)) || $0 == 0x5F }
    guard isName else { return CommandProblem(written, "is no operator", hint: "write %% for a percent sign") }
    let near = Spelling.nearest(to: name, among: names).map { "did you mean '\($0)'?" }
    return CommandProblem(written, "is no operator that is known", hint: near)
  }
}
