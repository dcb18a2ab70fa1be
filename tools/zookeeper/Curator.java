import java.io.BufferedReader;
import java.io.File;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.net.InetSocketAddress;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.HexFormat;
import java.util.List;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;

import org.apache.curator.framework.CuratorFramework;
import org.apache.curator.framework.CuratorFrameworkFactory;
import org.apache.curator.framework.recipes.queue.DistributedDelayQueue;
import org.apache.curator.framework.recipes.queue.DistributedIdQueue;
import org.apache.curator.framework.recipes.queue.DistributedPriorityQueue;
import org.apache.curator.framework.recipes.queue.DistributedQueue;
import org.apache.curator.framework.recipes.queue.MultiItem;
import org.apache.curator.framework.recipes.queue.QueueBase;
import org.apache.curator.framework.recipes.queue.QueueBuilder;
import org.apache.curator.framework.recipes.queue.QueueConsumer;
import org.apache.curator.framework.recipes.queue.QueueSerializer;
import org.apache.curator.framework.recipes.queue.SimpleDistributedQueue;
import org.apache.curator.framework.state.ConnectionState;
import org.apache.curator.retry.RetryOneTime;
import org.apache.zookeeper.server.ServerCnxnFactory;
import org.apache.zookeeper.server.ZooKeeperServer;

/**
 * A ZooKeeper server, and Apache Curator as its client. It prints the port, then runs the command on each line of
 * standard input and responds with one line. Words are separated by tabs, and items are hex. It ends at end of input.
 *
 * <pre>
 * put RECIPE PATH (ITEM WORD)...      WORD is the priority, the epoch in milliseconds or the id; ignored otherwise
 * multi PATH ITEM...                  put many items as one node
 * deliver RECIPE PATH COUNT           consume COUNT items; responds with them in the order of delivery
 * hold PATH LOCKS                     have a consumer process the first item until `release`; responds with the item
 * release                             let the consumer finish the item, and stop it
 * consume PATH LOCKS                  have a consumer process all items in order until `stop`
 * stop                                stop it; responds with its items in the order of delivery
 * fail RECIPE PATH LOCKS              have a consumer fail at the first item, which requeues it
 * </pre>
 */
public final class Curator {
    private static final int TICK_MS = 500;
    private static final long PATIENCE_S = 20;
    private static final String NO_LOCKS = null;

    private final CuratorFramework client;
    private final LinkedBlockingQueue<Boolean> released = new LinkedBlockingQueue<>();
    private final LinkedBlockingQueue<byte[]> consumed = new LinkedBlockingQueue<>();
    private QueueBase<byte[]> held;
    private QueueBase<byte[]> shared;

    private Curator(CuratorFramework client) {
        this.client = client;
    }

    public static void main(String[] arguments) {
        int code = 0;
        try {
            run(arguments);
        } catch (Throwable e) {
            e.printStackTrace();
            code = 1;
        }
        // The server's threads are not daemons, so exit explicitly.
        System.exit(code);
    }

    private static void run(String[] arguments) throws Exception {
        File folder = new File(arguments[0]);
        ServerCnxnFactory listener = ServerCnxnFactory.createFactory(new InetSocketAddress("127.0.0.1", 0), 100);
        listener.startup(new ZooKeeperServer(folder, folder, TICK_MS));
        int port = listener.getLocalPort();
        CuratorFramework client = CuratorFrameworkFactory.newClient("127.0.0.1:" + port, new RetryOneTime(100));
        client.start();
        client.blockUntilConnected();

        PrintStream out = new PrintStream(System.out, true, StandardCharsets.UTF_8);
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        Curator curator = new Curator(client);
        out.println(port);
        for (String line = in.readLine(); line != null; line = in.readLine()) {
            String response;
            try {
                response = "ok\t" + curator.respond(line.split("\t", -1));
            } catch (Exception e) {
                e.printStackTrace();
                response = "failed\t" + e;
            }
            out.println(response.replace('\n', ' '));
        }
    }

    private String respond(String[] words) throws Exception {
        switch (words[0]) {
            case "put":
                for (int i = 3; i < words.length; i += 2) {
                    put(words[1], words[2], bytes(words[i]), words[i + 1]);
                }
                return "";
            case "multi":
                return multi(words);
            case "deliver":
                return deliver(words[1], words[2], Integer.parseInt(words[3]));
            case "hold":
                return hold(words[1], words[2]);
            case "release":
                released.add(true);
                held.close();
                return "";
            case "consume":
                shared = open("queue", words[1], item -> {
                    Thread.sleep(1);
                    consumed.add(item);
                }, words[2]);
                return "";
            case "stop":
                shared.close();
                return String.join("\t", consumed.stream().map(Curator::hex).toList());
            case "fail":
                return fail(words[1], words[2], words[3]);
            default:
                throw new IllegalArgumentException(words[0]);
        }
    }

    private void put(String recipe, String path, byte[] item, String word) throws Exception {
        if (recipe.equals("simple")) {
            new SimpleDistributedQueue(client, path).offer(item);
            return;
        }
        try (QueueBase<byte[]> queue = open(recipe, path, null, NO_LOCKS)) {
            switch (recipe) {
                case "queue":
                    ((DistributedQueue<byte[]>) queue).put(item);
                    break;
                case "priority":
                    ((DistributedPriorityQueue<byte[]>) queue).put(item, Integer.parseInt(word));
                    break;
                case "delay":
                    ((DistributedDelayQueue<byte[]>) queue).put(item, Long.parseLong(word));
                    break;
                default:
                    ((DistributedIdQueue<byte[]>) queue).put(item, word);
            }
        }
    }

    private String multi(String[] words) throws Exception {
        List<byte[]> items = new ArrayList<>();
        for (int i = 2; i < words.length; i++) {
            items.add(bytes(words[i]));
        }
        MultiItem<byte[]> multi = () -> items.isEmpty() ? null : items.remove(0);
        try (QueueBase<byte[]> queue = open("queue", words[1], null, NO_LOCKS)) {
            ((DistributedQueue<byte[]>) queue).putMulti(multi);
        }
        return "";
    }

    private String deliver(String recipe, String path, int count) throws Exception {
        List<String> items = new ArrayList<>();
        if (recipe.equals("simple")) {
            SimpleDistributedQueue queue = new SimpleDistributedQueue(client, path);
            for (int i = 0; i < count; i++) {
                items.add(hex(queue.poll(PATIENCE_S, TimeUnit.SECONDS)));
            }
        } else {
            BlockingQueue<byte[]> taken = new LinkedBlockingQueue<>();
            try (QueueBase<byte[]> queue = open(recipe, path, taken::add, NO_LOCKS)) {
                for (int i = 0; i < count; i++) {
                    items.add(hex(taken.poll(PATIENCE_S, TimeUnit.SECONDS)));
                }
            }
        }
        return String.join("\t", items);
    }

    private String hold(String path, String locks) throws Exception {
        BlockingQueue<byte[]> taken = new LinkedBlockingQueue<>();
        held = open("queue", path, item -> {
            taken.add(item);
            released.take();
        }, locks);
        return hex(taken.poll(PATIENCE_S, TimeUnit.SECONDS));
    }

    private String fail(String recipe, String path, String locks) throws Exception {
        BlockingQueue<byte[]> taken = new LinkedBlockingQueue<>();
        try (QueueBase<byte[]> queue = open(recipe, path, item -> {
            taken.add(item);
            throw new IllegalStateException("as the test wants it");
        }, locks)) {
            String item = hex(taken.poll(PATIENCE_S, TimeUnit.SECONDS));
            // The second delivery means that it was requeued.
            taken.poll(PATIENCE_S, TimeUnit.SECONDS);
            return item;
        }
    }

    private interface Work {
        void on(byte[] item) throws Exception;
    }

    private QueueBase<byte[]> open(String recipe, String path, Work work, String locks) throws Exception {
        QueueBuilder<byte[]> builder =
            QueueBuilder.builder(client, work == null ? null : consumer(work), new AsTheyAre(), path);
        builder.putInBackground(false);
        if (locks != NO_LOCKS) {
            builder.lockPath(locks);
        }
        QueueBase<byte[]> queue;
        switch (recipe) {
            case "queue":
                queue = builder.buildQueue();
                break;
            case "priority":
                queue = builder.buildPriorityQueue(0);
                break;
            case "delay":
                queue = builder.buildDelayQueue();
                break;
            case "id":
                queue = builder.buildIdQueue();
                break;
            default:
                throw new IllegalArgumentException(recipe);
        }
        queue.start();
        return queue;
    }

    private static QueueConsumer<byte[]> consumer(Work work) {
        return new QueueConsumer<>() {
            @Override
            public void consumeMessage(byte[] item) throws Exception {
                work.on(item);
            }

            @Override
            public void stateChanged(CuratorFramework client, ConnectionState state) {
                // Nothing here depends on the state of the connection.
            }
        };
    }

    private static final class AsTheyAre implements QueueSerializer<byte[]> {
        @Override
        public byte[] serialize(byte[] item) {
            return item;
        }

        @Override
        public byte[] deserialize(byte[] bytes) {
            return bytes;
        }
    }

    private static byte[] bytes(String hex) {
        return HexFormat.of().parseHex(hex);
    }

    private static String hex(byte[] item) {
        if (item == null) {
            throw new IllegalStateException("nothing was delivered");
        }
        return HexFormat.of().formatHex(item);
    }
}
