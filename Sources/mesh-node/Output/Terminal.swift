import CLinux
import Glibc

/// Standard output and error as a person sees them: colour only on a terminal, and never when NO_COLOR is set.
enum Terminal {
  static let isInteractive = isatty(STDOUT_FILENO) == 1
  static let hasColour = isInteractive && getenv("NO_COLOR") == nil

  enum Style: String {
    case bold = "1"
    case dim = "2"
    case red = "31"
    case green = "32"
    case yellow = "33"
    case cyan = "36"
  }

  static func styled(_ text: String, _ style: Style) -> String {
    hasColour ? "\u{1B}[\(style.rawValue)m\(text)\u{1B}[0m" : text
  }

  /// Writes a line to standard output.
  static func line(_ text: String = "") { write(text + "\n", to: STDOUT_FILENO) }
  /// Writes a line to standard error.
  static func errorLine(_ text: String) { write(text + "\n", to: STDERR_FILENO) }

  static func write(_ text: String, to descriptor: Int32 = STDOUT_FILENO) {
    var bytes = Array(text.utf8)[...]
    while !bytes.isEmpty {
      let written = bytes.withUnsafeBytes { Glibc.write(descriptor, $0.baseAddress, $0.count) }
      if written < 0 && errno == EINTR { continue }
      if written <= 0 { return }
      bytes = bytes.dropFirst(written)
    }
  }

  /// Control bytes and escapes from data (names, paths) never reach the terminal as such.
  static func clean(_ text: String) -> String {
    guard text.unicodeScalars.contains(where: { $0.value < 0x20 || $0.value == 0x7F || ($0.value >= 0x80 && $0.value < 0xA0) })
    else { return text }
    return String(
      String.UnicodeScalarView(
        text.unicodeScalars.map { scalar in
          scalar.value < 0x20 || (scalar.value >= 0x7F && scalar.value < 0xA0) ? "?" : scalar
        }))
  }

  /// Colours the words that tell state.
  static func state(_ word: String, shownAs shown: String? = nil) -> String {
    let text = shown ?? word
    return switch word {
    case "alive", "healthy", "valid", "ready", "leader": styled(text, .green)
    case "suspect", "starting", "expiring", "leaving", "warning": styled(text, .yellow)
    case "dead", "unhealthy", "unreachable", "expired", "error", "missing": styled(text, .red)
    case "left", "unknown", "-": styled(text, .dim)
    default: text
    }
  }
}
