import Cluster
import MeshConfig
import Primitives
import Transport

/// Keeps the SPIFFE bundles that the mesh's configuration names (Istio, `caCertificates[].spiffeBundleUrl`): asks for each as often
/// as it wants to be asked, keeps the last good one, in memory and on the disk, and hands on what has changed.
public actor BundleKeeper {
  /// Authorities by the URL that they were fetched from.
  public typealias Authorities = [HTTPSURL: [Certificate]]

  /// What is known at one moment.
  public struct Holdings: Hashable, Sendable {
    /// Later ones have higher numbers.
    public var version: UInt64 = 0
    public var authorities: Authorities = [:]

    public init() {}
  }

  /// Fetches a document.
  public typealias Fetch = @Sendable (HTTPSURL) async throws(FetchError) -> [UInt8]

  /// Something to tell the node's people, once.
  public enum News: Hashable, Sendable {
    case good(String)
    case bad(String)
  }

  /// How one URL does.
  public struct Status: Hashable, Sendable {
    public let url: HTTPSURL
    /// Of the last good answer; nil before the first.
    public let authorities: Int?
    public let fetchedAtUnixSeconds: Int64?
    public let failures: UInt64
    /// Why the last attempt failed; nil when it did not.
    public let trouble: String?
  }

  private struct Entry {
    var bundle: SPIFFEBundle?
    var fetchedAt: Int64?
    var failures: UInt64 = 0
    var trouble: String?
    var task: Task<Void, Never>?
  }

  private let fetch: Fetch
  private let files: BundleFiles
  private let unixSeconds: @Sendable () -> Int64
  private let pause: @Sendable (Duration) async -> Void
  private let tell: @Sendable (News) -> Void
  private let changed: @Sendable (Holdings) async -> Void
  private var version: UInt64 = 0
  private var entries: [HTTPSURL: Entry] = [:]
  private var generator: SeededGenerator
  private var hasBegun = false
  private var isClosed = false

  /// - Parameters:
  ///   - directory: where bundles are kept for the next start.
  ///   - changed: is told all authorities whenever some are others than before; calls may overtake each other.
  public init(
    fetch: @escaping Fetch, directory: String, seed: UInt64, unixSeconds: @escaping @Sendable () -> Int64,
    pause: @escaping @Sendable (Duration) async -> Void = { try? await Task.sleep(for: $0) },
    tell: @escaping @Sendable (News) -> Void, changed: @escaping @Sendable (Holdings) async -> Void
  ) {
    self.fetch = fetch
    files = BundleFiles(in: directory)
    generator = SeededGenerator(seed: seed)
    self.unixSeconds = unixSeconds
    self.pause = pause
    self.tell = tell
    self.changed = changed
  }

  public var authorities: Authorities { entries.compactMapValues { $0.bundle?.authorities } }

  public var statuses: [Status] {
    entries.sorted { $0.key < $1.key }.map { url, entry in
      Status(
        url: url, authorities: entry.bundle?.authorities.count, fetchedAtUnixSeconds: entry.fetchedAt, failures: entry.failures,
        trouble: entry.trouble)
    }
  }

  /// Makes these all the bundles that are kept. Returns when what the disk remembers of new ones is handed on.
  public func want(_ urls: [HTTPSURL]) async {
    guard !isClosed, !hasBegun || Set(urls) != Set(entries.keys) else { return }
    hasBegun = true
    let before = authorities
    for url in Set(entries.keys).subtracting(urls) { entries.removeValue(forKey: url)?.task?.cancel() }
    files.keepOnly(urls)
    for url in urls where entries[url] == nil {
      entries[url] = remembered(url)
      entries[url]?.task = Task { await self.follow(url) }
    }
    if authorities != before { await handOn() }
  }

  public func close() {
    isClosed = true
    for entry in entries.values { entry.task?.cancel() }
  }

  private func remembered(_ url: HTTPSURL) -> Entry {
    do {
      guard let kept = try files.load(url) else { return Entry() }
      return Entry(bundle: kept.bundle, fetchedAt: kept.unixSeconds)
    } catch {
      tell(.bad("the SPIFFE bundle that was kept of \(url) is not used: \(error)"))
      return Entry()
    }
  }

  private func handOn() async {
    version += 1
    var holdings = Holdings()
    holdings.version = version
    holdings.authorities = authorities
    await changed(holdings)
  }

  private func follow(_ url: HTTPSURL) async {
    var pace = BundlePace()
    while !Task.isCancelled {
      let answer: Result<[UInt8], FetchError>
      do throws(FetchError) { answer = .success(try await fetch(url)) } catch { answer = .failure(error) }
      // Whoever came after this URL left, or came back, has an entry and a task of its own.
      guard !Task.isCancelled else { return }
      await pause(await take(answer, of: url, &pace))
    }
  }

  /// Notes what came of an attempt; the time until the next one.
  private func take(_ answer: Result<[UInt8], FetchError>, of url: HTTPSURL, _ pace: inout BundlePace) async -> Duration {
    do {
      let document = try answer.get()
      let bundle = try SPIFFEBundle(parsing: document)
      let pause = pace.pauseAfterAnswer(hint: bundle.refreshHint, &generator)
      await take(bundle, document, of: url)
      return pause
    } catch {
      let reason = "\(error)"
      entries[url]?.failures += 1
      if entries[url]?.trouble != reason {
        entries[url]?.trouble = reason
        let consequence = entries[url]?.bundle == nil ? "nobody is trusted for it" : "the last good one holds"
        tell(.bad("the SPIFFE bundle of \(url) cannot be fetched, \(consequence): \(reason)"))
      }
      return pace.pauseAfterFailure(&generator)
    }
  }

  private func take(_ bundle: SPIFFEBundle, _ document: [UInt8], of url: HTTPSURL) async {
    let before = entries[url]
    entries[url]?.bundle = bundle
    entries[url]?.fetchedAt = unixSeconds()
    entries[url]?.trouble = nil
    let isChanged = before?.bundle?.authorities != bundle.authorities
    if isChanged || before?.trouble != nil {
      let number = bundle.sequence.map { ", sequence \($0)" } ?? ""
      let count = bundle.authorities.count == 1 ? "1 authority" : "\(bundle.authorities.count) authorities"
      tell(.good("the SPIFFE bundle of \(url) has \(count)\(number)"))
    }
    if before?.bundle != bundle || !files.renew(url) {
      do throws(FileError) { try files.keep(document, of: url) } catch {
        tell(.bad("the SPIFFE bundle of \(url) cannot be kept for the next start: \(error)"))
      }
    }
    if isChanged { await handOn() }
  }
}
