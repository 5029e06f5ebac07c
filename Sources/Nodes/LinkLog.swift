import Consensus
import Primitives
import Transport

/// Writes down what happens on links: news at once, failures only when they last, and each cause once.
actor LinkLog {
  private struct Trouble {
    let since: ContinuousClock.Instant
    var cause: String
    var text: String
    var said: String?
  }

  private let log: NodeLog
  /// By node, or by address where no node is known.
  private var troubles: [String: Trouble] = [:]

  /// Nodes that start together fail to reach each other for a moment; that is no news.
  private static let patience: Duration = .seconds(3)
  /// Strangers remembered at most.
  private static let troublesMax = 1_024

  init(_ log: NodeLog) { self.log = log }

  func note(_ event: LinkEvent) {
    switch event {
    case .introduced(let node, _, _): log.info("\(node) proved the join secret")
    case .joining(let node, let token, _, let address):
      log.info("\(node) at \(address) proved the join token \(JoinTokenID(token))")
    case .clockDiffers(let node, let seconds):
      log.warning(
        "the clock of \(node) is \(abs(seconds)) s \(seconds > 0 ? "ahead of" : "behind") this node's; "
          + "certificates may be refused: let both follow one time server")
    case .up(let node, _, _, let address):
      troubles[node.string] = nil
      log.info("link to \(node) at \(address) is up")
    case .down(let node, let reason): log.info("link to \(node) ended: \(reason)")
    case .leaving(let node, let reason): log.info("\(node) leaves: \(reason)")
    case .refused(let rejection, _, let node, let address, let text): trouble(Self.key(node, address), "\(rejection)", text)
    case .failed(let node, let address, let text):
      trouble(Self.key(node, address), text, node.map { "no link to \($0) at \(address): \(text)" } ?? "\(address): \(text)")
    }
  }

  /// Ports of callers change with each attempt.
  private static func key(_ node: NodeName?, _ address: SocketAddress) -> String {
    node?.string ?? address.ip.map { "\($0)" } ?? "\(address)"
  }

  private func trouble(_ key: String, _ cause: String, _ text: String) {
    if troubles[key] == nil {
      if troubles.count >= Self.troublesMax { troubles = [:] }
      troubles[key] = Trouble(since: .now, cause: cause, text: text)
      Task {
        try? await Task.sleep(for: Self.patience)
        say(key)
      }
      return
    }
    troubles[key]?.cause = cause
    troubles[key]?.text = text
    if let since = troubles[key]?.since, since.duration(to: .now) >= Self.patience { say(key) }
  }

  private func say(_ key: String) {
    guard let trouble = troubles[key], trouble.said != trouble.cause else { return }
    troubles[key]?.said = trouble.cause
    log.warning(trouble.text)
  }
}
