import Glibc
import MeshConfig
import Primitives
import Synchronization
import Testing

@testable import MeshActors
@testable import Transport

/// A server of bundles and a clock, both in the hands of a test.
private actor Stage {
  var answers: [HTTPSURL: Result<[UInt8], FetchError>] = [:]
  private(set) var pauses: [Duration] = []
  private(set) var seen: [BundleKeeper.Authorities] = []
  private var sleepers: [CheckedContinuation<Void, Never>] = []
  private nonisolated let told = Mutex<[BundleKeeper.News]>([])

  nonisolated var news: [BundleKeeper.News] { told.withLock { $0 } }

  func answer(_ url: HTTPSURL, _ answer: Result<[UInt8], FetchError>) { answers[url] = answer }

  func fetch(_ url: HTTPSURL) throws(FetchError) -> [UInt8] {
    guard let answer = answers[url] else { throw FetchError("nothing there") }
    return try answer.get()
  }

  private func sleep(_ duration: Duration) async {
    pauses.append(duration)
    await withCheckedContinuation { sleepers.append($0) }
  }

  private func see(_ authorities: BundleKeeper.Authorities) { seen.append(authorities) }

  /// Returns when so many URLs have been asked for and wait for their next turn.
  func asleep(_ count: Int) async { while sleepers.count < count { await Task.yield() } }

  /// Lets the pauses pass.
  func wake() {
    for sleeper in sleepers { sleeper.resume() }
    sleepers = []
  }

  nonisolated func keeper(in directory: String, at seconds: @escaping @Sendable () -> Int64 = { 1_000 }) -> BundleKeeper {
    BundleKeeper(
      fetch: { url throws(FetchError) in try await self.fetch(url) }, directory: directory, seed: 1, unixSeconds: seconds,
      pause: { await self.sleep($0) }, tell: { news in self.told.withLock { $0.append(news) } },
      changed: { await self.see($0.authorities) })
  }
}

@Suite struct BundleKeeperTests {
  private let directory = "/tmp/mesh-bundles-\(getpid())-\(UInt64.random(in: .min ... .max))"

  private var files: [String] {
    guard let listing = opendir(directory) else { return [] }
    defer { closedir(listing) }
    var names: [String] = []
    while let entry = readdir(listing) {
      let name = withUnsafeBytes(of: entry.pointee.d_name) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
      if !name.hasPrefix(".") { names.append("\(directory)/\(name)") }
    }
    return names
  }

  private func remove() {
    for file in files { unlink(file) }
    rmdir(directory)
  }

  private func url(_ name: String) throws -> HTTPSURL { try HTTPSURL(parsing: "https://\(name).example/") }

  @Test func `a change of a bundle is handed on, a failure keeps the last good one, and each is told once`() async throws {
    defer { remove() }
    let (stage, a, url) = (Stage(), try TestSigner(), try url("a"))
    let b = try TestSigner()
    let keeper = stage.keeper(in: directory)
    await stage.answer(url, .success(TestSigner.bundle([a], hint: 600)))
    await keeper.want([url])
    let steps: [Result<[UInt8], FetchError>] = [
      .success(TestSigner.bundle([a], sequence: 2)), .failure(FetchError("down")), .failure(FetchError("down")),
      .success(Array("<html>".utf8)), .success(TestSigner.bundle([a], sequence: 2)),
      .success(TestSigner.bundle([a, b], sequence: 3)),
      .success(Array(#"{"keys": []}"#.utf8)),
    ]
    for step in steps {
      await stage.asleep(1)
      await stage.answer(url, step)
      await stage.wake()
    }
    await stage.asleep(1)
    #expect(await stage.seen == [[url: [a.certificate]], [url: [a.certificate, b.certificate]], [url: []]])
    let place = "the SPIFFE bundle of https://a.example/"
    #expect(
      stage.news == [
        .good("\(place) has 1 authority, sequence 1"), .bad("\(place) cannot be fetched, the last good one holds: down"),
        .bad(
          "\(place) cannot be fetched, the last good one holds: not a usable SPIFFE bundle: not acceptable JSON: a value is expected, at byte 0"
        ), .good("\(place) has 1 authority, sequence 2"), .good("\(place) has 2 authorities, sequence 3"),
        .good("\(place) has 0 authorities"),
      ])
    let status = try #require(await keeper.statuses.first)
    #expect(status == .init(url: url, authorities: 0, fetchedAtUnixSeconds: 1_000, failures: 3, trouble: nil))
    let pauses = await stage.pauses.map { Int($0.inSeconds.rounded(.up)) }
    #expect(
      (540...600).contains(pauses[0]) && pauses[2...4].allSatisfy { $0 <= 4 } && (270...300).contains(pauses[5]), "\(pauses)")
    await keeper.close()
    await stage.wake()
  }

  @Test func `before the first answer nobody is trusted, and that is told`() async throws {
    let (stage, url) = (Stage(), try url("a"))
    let keeper = stage.keeper(in: directory)
    await keeper.want([url])
    await stage.asleep(1)
    #expect(await keeper.authorities == [:])
    #expect(await keeper.statuses.map(\.trouble) == ["nothing there"])
    #expect(
      stage.news == [.bad("the SPIFFE bundle of https://a.example/ cannot be fetched, nobody is trusted for it: nothing there")]
    )
    await keeper.close()
    await stage.wake()
  }

  @Test func `a bundle outlives the node, and goes with its URL`() async throws {
    defer { remove() }
    let (a, b, first) = (try TestSigner(), try TestSigner(), Stage())
    let (urlA, urlB) = (try url("a"), try url("b"))
    await first.answer(urlA, .success(TestSigner.bundle([a])))
    await first.answer(urlB, .success(TestSigner.bundle([b])))
    var keeper = first.keeper(in: directory)
    await keeper.want([urlA, urlB])
    await first.asleep(2)
    await keeper.close()
    await first.wake()
    #expect(files.count == 2)
    for file in files { utimes(file, [timeval(tv_sec: 77, tv_usec: 0), timeval(tv_sec: 77, tv_usec: 0)]) }

    let second = Stage()
    keeper = second.keeper(in: directory)
    await keeper.want([urlA, urlB])
    #expect(await second.seen == [[urlA: [a.certificate], urlB: [b.certificate]]], "before the first question is answered")
    #expect(await keeper.statuses.map(\.fetchedAtUnixSeconds) == [77, 77])
    await second.asleep(2)
    #expect(await keeper.authorities.count == 2 && second.news.count == 2)
    await keeper.want([urlB])
    #expect(await second.seen.last == [urlB: [b.certificate]])
    #expect(files.count == 1)
    await keeper.want([urlA, urlB])
    #expect(await second.seen.last == [urlB: [b.certificate]], "nothing is left of it")
    await second.asleep(3)
    await keeper.close()
    await second.wake()

    let third = Stage()
    keeper = third.keeper(in: directory)
    await keeper.want([])
    #expect(files.isEmpty, "what left while the node was down")
    await keeper.close()
  }

  @Test func `a damaged file is told of and not used`() async throws {
    defer { remove() }
    let (signer, first, url) = (try TestSigner(), Stage(), try url("a"))
    await first.answer(url, .success(TestSigner.bundle([signer])))
    var keeper = first.keeper(in: directory)
    await keeper.want([url])
    await first.asleep(1)
    await keeper.close()
    await first.wake()
    let file = try #require(files.first)
    for damage in [100, 2 << 20] {
      #expect(truncate(file, damage) == 0)
      let second = Stage()
      keeper = second.keeper(in: directory)
      await keeper.want([url])
      #expect(await keeper.authorities == [:])
      let told = "\(second.news.first, default: "nothing")"
      #expect(told.contains("the SPIFFE bundle that was kept of https://a.example/ is not used: "))
      await second.asleep(1)
      await keeper.close()
      await second.wake()
    }
  }

  @Test func `a URL that leaves and comes back is asked anew`() async throws {
    defer { remove() }
    let (stage, signer, url) = (Stage(), try TestSigner(), try url("a"))
    let keeper = stage.keeper(in: directory)
    await keeper.want([url])
    await stage.asleep(1)
    await stage.answer(url, .success(TestSigner.bundle([signer])))
    await keeper.want([])
    await stage.wake()
    await keeper.want([url])
    await stage.asleep(1)
    #expect(await stage.seen == [[url: [signer.certificate]]])
    #expect(await keeper.statuses.map(\.failures) == [0])
    await keeper.close()
    await stage.wake()
  }
}
